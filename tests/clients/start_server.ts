/**
 * The handler on a free port of this machine, for clients that need a real server.
 *
 * It serves the fake model; with `RNGD_CLIENT_MODEL` set to a model's path, that model.
 */

import { handler, type HandlerOptions, type ServedModel } from "../../lib/openai/handler.ts";
import { FakeLLM, type FakeOptions } from "../openai/fake_llm.ts";

/** A server that runs until it is disposed of. */
export interface RunningServer extends AsyncDisposable {
  /** The address for a client, with `/v1`. */
  readonly baseURL: string;
  /** undefined when a real model is served. */
  readonly fake: FakeLLM | undefined;
}

/** Starts a server; `fakeOptions` count for the fake model only. */
export async function startServer(
  options: HandlerOptions = {},
  fakeOptions: FakeOptions = {},
): Promise<RunningServer> {
  const path = Deno.env.get("RNGD_CLIENT_MODEL");
  const fake = path === undefined ? new FakeLLM(fakeOptions) : undefined;
  const real = path === undefined ? undefined : await loadReal(path);
  const llm = (fake ?? real) as ServedModel;
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    handler(llm, { servedModelNames: ["served"], ...options }),
  );
  return {
    baseURL: `http://127.0.0.1:${server.addr.port}/v1`,
    fake,
    async [Symbol.asyncDispose]() {
      await server.shutdown();
      await real?.close();
    },
  };
}

async function loadReal(path: string) {
  const { LLM } = await import("../../mod.ts");
  return await LLM.load(path);
}
