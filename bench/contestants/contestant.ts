/** An engine under test, in a process of its own, as the bench talks to it. */

import { peerArguments } from "../peers/peer_process.ts";
import type { Answers, Question, Reply } from "./protocol.ts";

const HERE = new URL(".", import.meta.url);

/** A running process that answers questions, one at a time. */
export class Contestant implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(args: readonly string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: [...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#writer = this.#child.stdin.getWriter();
    this.#reader = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Our engine; `v8Flags` are those of a user who opted in to unsafe ones. */
  static ours(v8Flags: readonly string[] = []): Contestant {
    const flags = v8Flags.length === 0 ? [] : [`--v8-flags=${v8Flags.join(",")}`];
    return new Contestant(["run", "-A", "-q", ...flags, `${HERE.pathname}ours.ts`]);
  }

  /** llama.cpp, through its C API. */
  static llamaCpp(): Contestant {
    return new Contestant(peerArguments("llama_cpp.ts"));
  }

  /** wllama, in a browser without a window. */
  static wllama(): Contestant {
    return new Contestant(peerArguments("wllama.ts"));
  }

  /** Asks, and waits for the answer. */
  async ask<Q extends Question>(question: Q): Promise<Answers[Q["ask"]]> {
    await this.#writer.write(new TextEncoder().encode(`${JSON.stringify(question)}\n`));
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) throw new Error(`The process ended while it was asked to ${question.ask}`);
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const reply = JSON.parse(this.#rest.slice(0, end)) as Reply;
    this.#rest = this.#rest.slice(end + 1);
    if ("error" in reply) throw new Error(`Cannot ${question.ask}: ${reply.error}`);
    return reply.answer as Answers[Q["ask"]];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A process that has died already cannot be told to end.
    await this.#writer.close().catch(() => undefined);
    await this.#reader.cancel();
    await this.#child.status;
  }
}
