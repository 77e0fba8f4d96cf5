/** The command as a process of its own, with a model that needs no weights. */

const SERVER = new URL("./fake_server.ts", import.meta.url).pathname;

/** A running command, its output as it comes. */
export class Running implements AsyncDisposable {
  readonly process: Deno.ChildProcess;
  #text = "";
  #output = "";
  readonly #reading: Promise<unknown>;
  readonly #leaving = new AbortController();

  constructor(args: readonly string[], env: Record<string, string> = {}) {
    this.process = new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "-A", SERVER, ...args],
      env,
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const { stdout, stderr } = this.process;
    this.#reading = Promise.all([
      read(stderr, (text) => this.#text += text, this.#leaving.signal),
      read(stdout, (text) => this.#output += text),
    ]);
  }

  /** Its standard error so far. */
  get text(): string {
    return this.#text;
  }

  /** Its standard output so far. */
  get output(): string {
    return this.#output;
  }

  /** Waits for a text in the output. */
  async said(text: string): Promise<void> {
    const deadline = Date.now() + 20_000;
    while (!this.#text.includes(text)) {
      if (Date.now() > deadline) throw new Error(`No "${text}" in: ${this.#text}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  /** The address in the banner. */
  async url(): Promise<string> {
    await this.said("curl http");
    return /https?:\/\/[^\s/]+/.exec(this.#text)?.[0] ?? "";
  }

  /** Reads no more of its standard error, as a pipe into a program that has ended. */
  async closeErrors(): Promise<void> {
    this.#leaving.abort();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }

  async code(): Promise<number> {
    const { code } = await this.process.status;
    await this.#reading;
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.code();
  }
}

async function read(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  push: (text: string) => void,
  signal = new AbortController().signal,
): Promise<void> {
  const texts = new WritableStream<string>({ write: push });
  try {
    await stream.pipeThrough(new TextDecoderStream(), { signal }).pipeTo(texts);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
