/** A server under test: ours or llama-server, as a process, and the requests that it is timed by. */

const SERVE = new URL("../../serve.ts", import.meta.url).pathname;

/** Loading a model takes seconds; a server that is not there by then will not come. */
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 50;

/** Sampling as people ask for it, and no early end: every request writes as much as it may. */
const SAMPLING = { temperature: 0.8, top_k: 40, seed: 1, ignore_eos: true } as const;

/** What one request came to. */
export interface Completion {
  readonly firstTokenMs: number;
  readonly tokens: number;
}

/** A server that answers. */
export class HttpContestant implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly port: number;
  readonly url: string;
  #model = "";

  private constructor(program: string, makeArguments: (port: number) => string[]) {
    const port = this.port = freePort();
    this.url = `http://127.0.0.1:${port}`;
    this.#child = new Deno.Command(program, {
      args: makeArguments(port),
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  /** Our command. */
  static async ours(model: string): Promise<HttpContestant> {
    const server = new HttpContestant(Deno.execPath(), (port) => [
      ...["run", "-A", "-q", SERVE, model],
      ...["--host", "127.0.0.1", "--port", `${port}`],
    ]);
    return await server.#ready();
  }

  /** llama-server with room for so many streams of 256 tokens. */
  static async llamaServer(
    program: string,
    model: string,
    { streams, threads }: { readonly streams: number; readonly threads: number },
  ): Promise<HttpContestant> {
    const server = new HttpContestant(program, (port) => [
      ...["--model", model, "--host", "127.0.0.1", "--port", `${port}`],
      ...["--parallel", `${streams}`, "--ctx-size", `${streams * 256}`],
      ...["--threads", `${threads}`, "--threads-batch", `${threads}`],
      ...["--cache-type-k", "bf16", "--cache-type-v", "bf16"],
    ]);
    return await server.#ready();
  }

  /** Waits until the model is loaded. */
  async #ready(): Promise<HttpContestant> {
    let ended = false;
    this.#child.status.then(() => ended = true);
    const deadline = performance.now() + START_TIMEOUT_MS;
    while (!await this.#isHealthy()) {
      if (ended) throw new Error("The server ended while it was starting");
      if (performance.now() > deadline) throw new Error("The server does not start");
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    }
    const { data } = await (await fetch(`${this.url}/v1/models`)).json();
    this.#model = data[0].id;
    return this;
  }

  async #isHealthy(): Promise<boolean> {
    try {
      const response = await fetch(`${this.url}/health`);
      await response.body?.cancel();
      return response.ok;
    } catch (error) {
      // Nobody listens yet.
      if (error instanceof TypeError) return false;
      throw error;
    }
  }

  /** One streamed completion, read to its end. */
  async complete(prompt: readonly number[], maxTokens: number): Promise<Completion> {
    const start = performance.now();
    const response = await fetch(`${this.url}/v1/completions`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({
        model: this.#model,
        prompt,
        max_tokens: maxTokens,
        stream: true,
        stream_options: { include_usage: true },
        ...SAMPLING,
      }),
    });
    if (!response.ok) throw new Error(`The server answers: ${await response.text()}`);
    let firstTokenMs: number | undefined;
    let tokens = 0;
    let rest = "";
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop() as string;
      for (const line of lines) {
        if (!line.startsWith("data: {")) continue;
        firstTokenMs ??= performance.now() - start;
        // Parsing every event would make the client a part of what is measured.
        if (!line.includes('"completion_tokens"')) continue;
        tokens = JSON.parse(line.slice("data: ".length)).usage?.completion_tokens ?? tokens;
      }
    }
    if (firstTokenMs === undefined || tokens !== maxTokens) {
      throw new Error(`The server wrote ${tokens} tokens instead of ${maxTokens}`);
    }
    return { firstTokenMs, tokens };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGTERM");
    await this.#child.status;
  }
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}
