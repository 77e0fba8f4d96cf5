/**
 * One thread with a tokenizer of its own, and a fair queue in front of it.
 *
 * ```text
 * ask ─▶ queues, one an owner ─▶ the owners by turns ─▶ thread ─▶ reply
 *                                                         │ no reply in time
 *                                                         └▶ terminated; the next request starts another
 * ```
 *
 * Whoever asks a thousand times delays another's single request by one text, not by a thousand.
 * The thread starts with the first request, is given the tokenizer piece by piece, and ends when it
 * had nothing to do for a while, or by `close`. It costs what a second tokenizer costs: the
 * isolate's 30 MB, and about 1 kB an entry of the vocabulary.
 */

import { ClosedError, InvalidParameterError } from "../base/errors.ts";
import { receiveError, type SentError } from "./sent_error.ts";
import type { Tokenizer } from "./tokenizer.ts";
import type { TokenizerMode } from "./tokenizer_engine.ts";
import { partsOf, type TokenizerPart } from "./tokenizer_parts.ts";

/** What the thread can be asked. */
export type TokenizerRequest =
  | { readonly kind: "encode"; readonly text: string; readonly addSpecialTokens: boolean }
  | { readonly kind: "decode"; readonly ids: Int32Array; readonly skipSpecialTokens: boolean }
  /** The tokens of a text that an answer must be; `promptTail` are the ids before them. */
  | { readonly kind: "force"; readonly text: string; readonly promptTail: readonly number[] };

/** What the thread is sent: pieces of the tokenizer, their end, then requests. */
export type ThreadMessage =
  | { readonly kind: "part"; readonly part: TokenizerPart }
  | { readonly kind: "end"; readonly mode: TokenizerMode }
  | TokenizerRequest;

/** What the thread says. */
export type TokenizerReply =
  | { readonly kind: "ready" }
  | TokenizerResult
  | { readonly kind: "error"; readonly error: SentError };

/** What comes of a request. */
export type TokenizerResult =
  | { readonly kind: "ids"; readonly ids: Int32Array<ArrayBuffer> }
  | { readonly kind: "text"; readonly text: string };

/** How a thread behaves. */
export interface TokenizerThreadOptions {
  /** Longest that one text may take. Default 10,000. */
  readonly timeoutMs?: number;
  /** Which package cuts texts in the thread: that of the tokenizer. Default "auto". */
  readonly mode?: TokenizerMode;
  /** How long the thread waits for more work. Default 60,000. */
  readonly idleMs?: number;
}

interface Job {
  readonly request: TokenizerRequest;
  readonly line: Line;
  readonly resolve: (result: TokenizerResult) => void;
  readonly reject: (reason: unknown) => void;
}

/** The jobs of one owner. */
interface Line {
  readonly owner: object;
  readonly waiting: Job[];
  /** Those that wait, and the one that is worked on. */
  readonly open: Set<Job>;
  /** Stops watching the owner's signal. */
  readonly forget: () => void;
}

/** See the file's header. */
export class TokenizerThread implements Disposable {
  readonly #tokenizer: Tokenizer;
  readonly #timeoutMs: number;
  readonly #idleMs: number;
  readonly #mode: TokenizerMode;
  /** Of every owner, until its last job is settled; whose turn is next comes first. */
  readonly #lines = new Map<object, Line>();
  #current: Job | undefined;
  #worker: Worker | undefined;
  #isReady = false;
  #isClosed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(tokenizer: Tokenizer, options: TokenizerThreadOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#timeoutMs = options.timeoutMs ?? 10_000;
    this.#idleMs = options.idleMs ?? 60_000;
    this.#mode = options.mode ?? "auto";
  }

  /**
   * Runs a request in its turn. An abort ends the waiting at once; a text that is being worked on is
   * finished and forgotten.
   *
   * @param signal Aborts it; requests that share a signal share a place in the queue.
   * @throws {InvalidParameterError} It took too long, or no tokens spell a text that is forced.
   * @throws {ClosedError} The thread was closed.
   */
  ask(request: TokenizerRequest, signal?: AbortSignal): Promise<TokenizerResult> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#isClosed) return Promise.reject(new ClosedError("The model is closed"));
    const owner = signal ?? {};
    const line = this.#lines.get(owner) ?? this.#openLine(owner, signal);
    return new Promise((resolve, reject) => {
      const job: Job = { request, line, resolve, reject };
      line.waiting.push(job);
      line.open.add(job);
      this.#next();
    });
  }

  /** Ends the thread; what waits is rejected with a `ClosedError`. */
  close(): void {
    this.#isClosed = true;
    this.#stop();
    this.#current = undefined;
    for (const owner of this.#lines.keys()) {
      this.#closeLine(owner, new ClosedError("The model was closed"));
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #openLine(owner: object, signal: AbortSignal | undefined): Line {
    const leave = () => this.#closeLine(owner, signal?.reason);
    signal?.addEventListener("abort", leave, { once: true });
    const forget = () => signal?.removeEventListener("abort", leave);
    const line: Line = { owner, waiting: [], open: new Set(), forget };
    this.#lines.set(owner, line);
    return line;
  }

  #closeLine(owner: object, reason: unknown): void {
    const line = this.#lines.get(owner);
    this.#lines.delete(owner);
    line?.forget();
    for (const job of line?.open ?? []) job.reject(reason);
    line?.open.clear();
  }

  /** The first job of the owner whose turn it is, who then goes to the end. */
  #take(): Job | undefined {
    for (const [owner, line] of this.#lines) {
      const job = line.waiting.shift();
      if (job === undefined) continue;
      this.#lines.delete(owner);
      this.#lines.set(owner, line);
      return job;
    }
  }

  #next(): void {
    if (this.#current !== undefined) return;
    this.#current = this.#take();
    clearTimeout(this.#timer);
    if (this.#current !== undefined) {
      if (this.#worker === undefined) this.#start();
      else if (this.#isReady) this.#run(this.#worker, this.#current);
    } else if (this.#worker !== undefined) {
      this.#timer = setTimeout(() => this.#stop(), this.#idleMs);
      Deno.unrefTimer(this.#timer);
    }
  }

  #run(worker: Worker, { request }: Job): void {
    worker.postMessage(request satisfies ThreadMessage);
    this.#timer = setTimeout(() => {
      this.#stop();
      this.#settle((job) => job.reject(timeoutError(request, this.#timeoutMs)));
    }, this.#timeoutMs);
  }

  #start(): void {
    const worker = new Worker(new URL("./tokenizer_worker.ts", import.meta.url), {
      type: "module",
      name: "tokenizer",
    });
    this.#worker = worker;
    worker.onmessage = ({ data }: MessageEvent<TokenizerReply>) => {
      if (data.kind === "ready") {
        this.#isReady = true;
        if (this.#current !== undefined) this.#run(worker, this.#current);
      } else if (data.kind === "error") {
        this.#settle((job) => job.reject(receiveError(data.error)));
      } else {
        this.#settle((job) => job.resolve(data));
      }
    };
    worker.onerror = (event) => {
      event.preventDefault(); // else it would end the process
      this.#stop();
      this.#settle((job) => job.reject(new Error(`Cannot tokenize: ${event.message}`)));
    };
    this.#teach(worker);
  }

  /** Gives a new thread the tokenizer, one piece each time the event loop comes round. */
  #teach(worker: Worker): void {
    const parts = partsOf(this.#tokenizer.source, this.#tokenizer.file);
    const step = () => {
      if (this.#worker !== worker) return;
      const { done, value: part } = parts.next();
      const message: ThreadMessage = done
        ? { kind: "end", mode: this.#mode }
        : { kind: "part", part };
      worker.postMessage(message);
      if (!done) this.#timer = setTimeout(step);
    };
    step();
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#isReady = false;
  }

  #settle(tell: (job: Job) => void): void {
    clearTimeout(this.#timer);
    const job = this.#current;
    this.#current = undefined;
    // Of one that left meanwhile nobody wants to hear.
    if (job?.line.open.delete(job)) {
      if (job.line.open.size === 0) this.#closeLine(job.line.owner, undefined);
      tell(job);
    }
    this.#next();
  }
}

function timeoutError(request: TokenizerRequest, timeoutMs: number): Error {
  const [parameter, length, unit] = request.kind === "decode"
    ? ["promptTokenIds", request.ids.length, "tokens"] as const
    : [request.kind === "force" ? "forcedOutput" : "prompt", request.text.length, "characters"];
  return new InvalidParameterError(
    parameter,
    length,
    `Cannot tokenize ${parameter} of ${length} ${unit}: it takes longer than ${timeoutMs} ms`,
  );
}
