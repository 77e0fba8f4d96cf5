/** The server under test as a process that can be asked what it holds. */

import type { ServerReport } from "./server.ts";

const SERVER = new URL("server.ts", import.meta.url).pathname;
/**
 * Nobody can collect the garbage of the server's threads from outside, and each may let 48 MiB of
 * young garbage pile up in its own time: that would hide what is lost. Of 1 MiB nothing piles up.
 */
const V8_FLAGS = "--v8-flags=--expose-gc,--max-semi-space-size=1";

/** A running server. */
export class ServerProcess {
  readonly port: number;
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #questions: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #rest = "";

  private constructor(child: Deno.ChildProcess, lines: ReadableStreamDefaultReader<string>) {
    this.#child = child;
    this.#lines = lines;
    this.#questions = child.stdin.getWriter();
    this.port = 0;
  }

  /** Starts it with a model, and waits until it listens. */
  static async start(model: string): Promise<ServerProcess> {
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "-q", V8_FLAGS, SERVER, model],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    const lines = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    const server = new ServerProcess(child, lines);
    const { port } = await server.#readReport();
    return Object.assign(server, { port });
  }

  /** What it holds, its garbage collected. */
  async report(): Promise<ServerReport> {
    await this.#questions.write(new TextEncoder().encode("report\n"));
    return await this.#readReport();
  }

  /** Lets it end in order; gives its exit code. */
  async stop(): Promise<number> {
    await this.#questions.close();
    const { code } = await this.#child.status;
    await this.#lines.cancel();
    return code;
  }

  async #readReport(): Promise<ServerReport> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) throw new Error("The server has ended");
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const report: ServerReport = JSON.parse(this.#rest.slice(0, end));
    this.#rest = this.#rest.slice(end + 1);
    return report;
  }
}
