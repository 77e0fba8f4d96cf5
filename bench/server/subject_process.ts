/** The server under test as a process, and a client that costs it next to nothing. */

import { Connection } from "../../tools/soak/connection.ts";
import { withLimit } from "./limit.ts";
import {
  type Listening,
  makeQuestion,
  pathOf,
  type StreamAnswer,
  type StreamFailure,
  type StreamQuestion,
  type Watching,
} from "./protocol.ts";

const SUBJECT = new URL("subject.ts", import.meta.url).pathname;
/** {@linkcode SAMPLING} as it is sent. */
const SAMPLING_FIELDS = { temperature: 0.8, top_k: 40, seed: 1, ignore_eos: true } as const;

/** Loading and compiling, on a machine that has other things to do. */
const START_LIMIT_MS = 300_000;
/** All streams of a question. */
const ANSWER_LIMIT_MS = 300_000;
/** One answer that is there already, or the end of a process that was asked for it. */
const END_LIMIT_MS = 30_000;

/** A running server. */
export class SubjectProcess implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #questions: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  #rest = "";
  #port = 0;

  private constructor(model: string) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "-q", SUBJECT, model],
      stdin: "piped",
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#questions = this.#child.stdin.getWriter();
  }

  /** Starts it, and waits until it listens. */
  static async start(model: string): Promise<SubjectProcess> {
    const subject = new SubjectProcess(model);
    try {
      const { port } = await subject.#readLine(START_LIMIT_MS) as Listening;
      subject.#port = port;
      return subject;
    } catch (error) {
      await subject[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Its port on this machine. */
  get port(): number {
    return this.#port;
  }

  /**
   * Streams so many answers.
   *
   * Over HTTP this process sends the requests and then sleeps: what the server writes meanwhile
   * waits in the sockets, which have room for all of it, and is read and checked after the time is
   * taken. So the client takes no part of the machine, as it would on another one.
   *
   * @throws {Error} One of them was refused, failed, or did not end in time.
   */
  async measure(question: StreamQuestion): Promise<StreamAnswer> {
    await this.#questions.write(new TextEncoder().encode(`${JSON.stringify(question)}\n`));
    // A request that overtook the question would be answered unwatched, and waited for forever.
    const { round } = await this.#readLine(ANSWER_LIMIT_MS) as Watching;
    if (round !== question.round) throw new Error(`The server answers question ${round}`);
    if (question.way === "direct") return await this.#readAnswer();
    using stack = new DisposableStack();
    const connections: Connection[] = [];
    for (let stream = 0; stream < question.streams; stream++) {
      const connection = stack.use(await Connection.open(this.port));
      await connection.post(pathOf(question.way), bodyOf(question, stream));
      connections.push(connection);
    }
    const answer = await this.#readAnswer();
    for (const connection of connections) {
      const { status, text } = await withLimit(
        connection.readAnswer(),
        END_LIMIT_MS,
        "The end of a stream",
      );
      const chunks = text.split("\n\n").length;
      if (status !== 200 || chunks < question.tokens || !text.endsWith("data: [DONE]\n\n")) {
        throw new Error(`The server answers with ${status} and ${chunks} chunks: ${text}`);
      }
    }
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#questions.close().catch(() => {}); // it has ended by itself
    try {
      await withLimit(this.#child.status, END_LIMIT_MS, "The end of the server");
    } catch {
      this.#child.kill("SIGKILL");
      await this.#child.status;
    }
    await this.#lines.cancel();
  }

  async #readAnswer(): Promise<StreamAnswer> {
    const answer = await this.#readLine(ANSWER_LIMIT_MS) as StreamAnswer | StreamFailure;
    if ("error" in answer) throw new Error(`A stream has failed: ${answer.error}`);
    return answer;
  }

  async #readLine(limitMs: number): Promise<unknown> {
    const deadline = performance.now() + limitMs;
    while (!this.#rest.includes("\n")) {
      const { value, done } = await withLimit(
        this.#lines.read(),
        Math.max(0, deadline - performance.now()),
        "A word of the server",
      );
      if (done) throw new Error("The server has ended");
      this.#rest += value;
    }
    const end = this.#rest.indexOf("\n");
    const line = this.#rest.slice(0, end);
    this.#rest = this.#rest.slice(end + 1);
    return JSON.parse(line);
  }
}

function bodyOf({ way, tokens, round }: StreamQuestion, stream: number): string {
  const question = makeQuestion(round, stream);
  return JSON.stringify({
    ...(way === "chat"
      ? { messages: [{ role: "user", content: question }] }
      : { prompt: question }),
    ...{ max_tokens: tokens, stream: true, ...SAMPLING_FIELDS },
  });
}
