/** The command with a model that needs no weights, for tests that start a process: `fake_server.ts MODEL [flags]`. */

import { ClosedError } from "../../lib/base/errors.ts";
import { main } from "../../serve.ts";
import { FakeLLM } from "../openai/fake_llm.ts";

/** Each token takes this long and is said when it begins, so that a test can act in the middle of an answer. */
const TOKEN_MS = Number(Deno.env.get("FAKE_TOKEN_MS") ?? 0);

class ServedFake extends FakeLLM implements AsyncDisposable {
  readonly #closed: () => void;

  constructor() {
    const { promise, resolve } = Promise.withResolvers<void>();
    super({
      async before(_step, signal) {
        console.error("a token begins");
        const token = new Promise<void>((pass, fail) => {
          setTimeout(pass, TOKEN_MS);
          signal?.addEventListener("abort", () => fail(signal.reason));
        });
        const closed = promise.then(() => Promise.reject(new ClosedError("The model was closed")));
        await Promise.race([token, closed]);
      },
    });
    this.#closed = resolve;
  }

  [Symbol.asyncDispose](): Promise<void> {
    console.error("closed");
    this.#closed();
    return Promise.resolve();
  }
}

Deno.exit(
  await main(Deno.args, async (model, options) => {
    if (model === "missing") throw new Error(`Cannot find "${model}"`);
    if (model === "slow") {
      await new Promise((_, fail) => {
        console.error("loading");
        options.signal?.addEventListener("abort", fail);
      });
    }
    options.onProgress?.({ stage: "read", done: 0, total: 2_000_000 });
    options.onProgress?.({ stage: "read", done: 2_000_000, total: 2_000_000 });
    return new ServedFake();
  }),
);
