/** The process under test: one model, asked directly or over HTTP; both ways are watched alike. */

import { handler, type ServedModel } from "../../lib/openai/handler.ts";
import { LLM, SamplingParams } from "../../mod.ts";
import {
  type Listening,
  makeQuestion,
  pathOf,
  SAMPLING,
  type StreamAnswer,
  type StreamFailure,
  type StreamQuestion,
  type Watching,
} from "./protocol.ts";
import { mainThreadMs, StreamWatch } from "./stream_watch.ts";

await using llm = await LLM.load(Deno.args[0] as string);

/** The question that is being answered. Other requests may come meanwhile, on another way. */
let asked: { readonly question: StreamQuestion; readonly watch: StreamWatch } | undefined;

/** The model, the streams of a question watched. */
const watched: ServedModel = new Proxy(llm, {
  get(model, name) {
    if (name === "stream") {
      return (...args: Parameters<LLM["stream"]>) => {
        const deltas = model.stream(...args);
        const isChat = Array.isArray(args[0]);
        const isAsked = asked !== undefined && isChat === (asked.question.way !== "completions");
        return isAsked ? asked!.watch.watch(deltas) : deltas;
      };
    }
    const value: unknown = Reflect.get(model, name, model);
    return typeof value === "function" ? value.bind(model) : value;
  },
});

async function measure(question: StreamQuestion): Promise<StreamAnswer | StreamFailure> {
  const watch = new StreamWatch(question.streams, mainThreadMs);
  asked = { question, watch };
  say({ round: question.round });
  try {
    if (question.way === "direct") await streamAll(question);
    return await watch.done;
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  } finally {
    asked = undefined;
  }
}

async function streamAll(question: StreamQuestion): Promise<void> {
  await Promise.all(Array.from({ length: question.streams }, async (_, stream) => {
    const messages = [{ role: "user", content: makeQuestion(question.round, stream) }];
    const params = new SamplingParams({ ...SAMPLING, maxTokens: question.tokens });
    for await (const _ of watched.stream(messages, params));
  }));
}

const answer = handler(watched);

/** The handler; of a refusal on the way of the question, which the model never saw, it tells too. */
async function observed(request: Request): Promise<Response> {
  const response = await answer(request);
  if (response.status === 200 || asked === undefined) return response;
  const { question, watch } = asked;
  if (new URL(request.url).pathname === pathOf(question.way)) {
    watch.fail(new Error(`A request was answered with ${response.status}`));
  }
  return response;
}

function say(word: Listening | Watching | StreamAnswer | StreamFailure): void {
  console.log(JSON.stringify(word));
}

const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, observed);
say({ port: server.addr.port });
let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop() as string;
  for (const line of lines) say(await measure(JSON.parse(line)));
}
await server.shutdown();
