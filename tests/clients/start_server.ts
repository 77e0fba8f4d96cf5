/**
 * The handler on a free port of this machine, for clients that need a real server.
 *
 * For generation it serves the fake model; with `RNGD_CLIENT_MODEL` set to a model's path, that
 * model. The models of the other tasks are real ones.
 */

import { handler, type HandlerOptions, type ServedModel } from "../../lib/openai/handler.ts";
import { LLM } from "../../mod.ts";
import { FakeLLM, type FakeOptions } from "../openai/fake_llm.ts";
import { writeTinyReranker } from "./tiny_reranker.ts";

/** A server that runs until it is disposed of. */
export interface RunningServer extends AsyncDisposable {
  /** The address without a path. */
  readonly url: string;
  /** The address for a client, with `/v1`. */
  readonly baseURL: string;
}

/** A server of generation. */
export interface GenerationServer extends RunningServer {
  /** undefined when a real model is served. */
  readonly fake: FakeLLM | undefined;
}

/** Starts a server of generation; `fakeOptions` count for the fake model only. */
export async function startServer(
  options: HandlerOptions = {},
  fakeOptions: FakeOptions = {},
): Promise<GenerationServer> {
  const path = Deno.env.get("RNGD_CLIENT_MODEL");
  if (path !== undefined) return { ...await startModel(path, options), fake: undefined };
  const fake = new FakeLLM(fakeOptions);
  return { ...listen(fake, options, async () => {}), fake };
}

/** Serves a model's file or folder. */
export async function startModel(
  path: string,
  options: HandlerOptions = {},
): Promise<RunningServer> {
  const llm = await LLM.load(path);
  return listen(llm, options, () => llm.close());
}

/** Serves a tiny Qwen3 reranker. */
export async function startReranker(): Promise<RunningServer> {
  const folder = await writeTinyReranker();
  try {
    return await startModel(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function listen(
  llm: ServedModel,
  options: HandlerOptions,
  close: () => Promise<void>,
): RunningServer {
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    handler(llm, { servedModelNames: ["served"], ...options }),
  );
  const url = `http://127.0.0.1:${server.addr.port}`;
  return {
    url,
    baseURL: `${url}/v1`,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await close();
    },
  };
}
