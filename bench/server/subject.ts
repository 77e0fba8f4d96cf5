/** The process under test: one model, asked directly or over HTTP; both ways are watched alike. */

import { handler, type ServedModel } from "../../lib/openai/handler.ts";
import { LLM, SamplingParams } from "../../mod.ts";
import { makeQuestion, SAMPLING, type StreamAnswer, type StreamQuestion } from "./protocol.ts";
import { StreamWatch } from "./stream_watch.ts";

await using llm = await LLM.load(Deno.args[0] as string);
let watch: StreamWatch | undefined;

/** The model, its streams watched while there is a question. */
const watched: ServedModel = new Proxy(llm, {
  get(model, name) {
    if (name === "stream") {
      return (...args: Parameters<LLM["stream"]>) => {
        const deltas = model.stream(...args);
        return watch === undefined ? deltas : watch.watch(deltas);
      };
    }
    const value: unknown = Reflect.get(model, name, model);
    return typeof value === "function" ? value.bind(model) : value;
  },
});

async function measure(question: StreamQuestion): Promise<StreamAnswer> {
  watch = new StreamWatch(question.streams);
  if (question.way === "direct") {
    await Promise.all(Array.from({ length: question.streams }, async (_, stream) => {
      const messages = [{ role: "user", content: makeQuestion(question.round, stream) }];
      const params = new SamplingParams({ ...SAMPLING, maxTokens: question.tokens });
      for await (const _ of watched.stream(messages, params));
    }));
  }
  const answer = await watch.done;
  watch = undefined;
  return answer;
}

const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, handler(watched));
console.log(JSON.stringify({ port: server.addr.port }));
let rest = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (rest + text).split("\n");
  rest = lines.pop() as string;
  for (const line of lines) console.log(JSON.stringify(await measure(JSON.parse(line))));
}
await server.shutdown();
