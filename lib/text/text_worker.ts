/**
 * The main thread's side of the text worker: a queue in front of one thread.
 *
 * ```text
 * render ─▶ queue ─▶ worker ─▶ reply
 *                      │ no reply in time, or nobody wants it any more
 *                      └▶ terminated; the next request starts another
 * ```
 *
 * The thread starts with the first request and ends when it had nothing to do for a while, or by
 * `close`. A running worker keeps a Deno process alive and cannot be unreferenced, so a process
 * that forgets to close ends that much later.
 */

import { ChatTemplateError, ClosedError } from "../base/errors.ts";
import { type RenderLimits, timeoutError } from "./render_budget.ts";

/** One template with its variables: plain data, since it goes to another thread. */
export interface RenderRequest extends RenderLimits {
  /** The template. */
  readonly source: string;
  /** The template's variables. */
  readonly variables: Readonly<Record<string, unknown>>;
  /** What `strftime_now` shows, as milliseconds since 1970. */
  readonly nowMs: number;
}

/** What the worker says. */
export type RenderReply =
  | { readonly kind: "ready" }
  | { readonly kind: "text"; readonly text: string }
  /** A bound was hit; `message` says which. */
  | { readonly kind: "limit"; readonly message: string }
  /** `raised`: by the template's own raise_exception. */
  | { readonly kind: "error"; readonly raised: boolean; readonly message: string };

interface Job {
  readonly request: RenderRequest;
  resolve(text: string): void;
  reject(reason: unknown): void;
}

/** The worker looks at the clock itself; this much later it is stuck inside a single operation. */
const GRACE_MS = 500;

/** A thread that renders chat templates one after another. */
export class TextWorker implements Disposable {
  #worker: Worker | undefined;
  #ready = false;
  #waiting: Job[] = [];
  #current: Job | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #idleMs: number;

  /** @param options `idleMs`: how long the thread waits for more work. Default 10,000. */
  constructor(options: { readonly idleMs?: number } = {}) {
    this.#idleMs = options.idleMs ?? 10_000;
  }

  /**
   * Renders a template. Aborting `signal` ends the render, or takes it out of the queue.
   *
   * @throws {ChatTemplateError} if the template refuses, fails or goes over a bound.
   */
  async render(request: RenderRequest, signal?: AbortSignal): Promise<string> {
    if (this.#closed) throw new ClosedError("Cannot render a chat template: it was closed");
    signal?.throwIfAborted();
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const job: Job = { request, resolve, reject };
    const abort = () => this.#drop(job, signal?.reason);
    signal?.addEventListener("abort", abort);
    this.#waiting.push(job);
    this.#next();
    try {
      return await promise;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** Ends the thread; what waits is rejected with a `ClosedError`. */
  close(): void {
    this.#closed = true;
    this.#stop();
    const jobs = this.#current === undefined ? this.#waiting : [this.#current, ...this.#waiting];
    this.#current = undefined;
    this.#waiting = [];
    for (const job of jobs) {
      job.reject(new ClosedError("Cannot render a chat template: it was closed meanwhile"));
    }
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #next(): void {
    if (this.#current !== undefined) return;
    this.#current = this.#waiting.shift();
    clearTimeout(this.#timer);
    if (this.#current === undefined) {
      if (this.#worker === undefined) return;
      const timer = setTimeout(() => this.#stop(), this.#idleMs);
      Deno.unrefTimer(timer);
      this.#timer = timer;
      return;
    }
    this.#worker ??= this.#start();
    this.#worker.postMessage(this.#current.request);
    if (this.#ready) this.#watch(); // else the time begins when the thread does
  }

  /** Nobody waits for a job any more: others shall not wait behind it. */
  #drop(job: Job, reason: unknown): void {
    job.reject(reason);
    if (job !== this.#current) {
      this.#waiting = this.#waiting.filter((waiting) => waiting !== job);
      return;
    }
    this.#stop();
    this.#current = undefined;
    this.#next();
  }

  #watch(): void {
    const { timeoutMs, outputLengthMax } = (this.#current as Job).request;
    this.#timer = setTimeout(() => {
      this.#stop();
      this.#settle({
        kind: "limit",
        message: timeoutError({ timeoutMs, outputLengthMax }).message,
      });
    }, timeoutMs + GRACE_MS);
  }

  #start(): Worker {
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      type: "module",
      name: "text",
    });
    worker.onmessage = ({ data }: MessageEvent<RenderReply>) => {
      if (data.kind !== "ready") return this.#settle(data);
      this.#ready = true;
      if (this.#current !== undefined) this.#watch();
    };
    worker.onerror = (event) => {
      event.preventDefault(); // else it would end the process
      this.#stop();
      this.#settle({ kind: "error", raised: false, message: `its thread ended: ${event.message}` });
    };
    return worker;
  }

  #stop(): void {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#ready = false;
  }

  #settle(reply: Exclude<RenderReply, { kind: "ready" }>): void {
    const job = this.#current;
    this.#current = undefined;
    if (reply.kind === "text") job?.resolve(reply.text);
    else job?.reject(new ChatTemplateError(describe(reply)));
    this.#next();
  }
}

/** What the template raised itself is passed on as it is: it speaks to whoever wrote the messages. */
function describe(reply: Extract<RenderReply, { kind: "limit" | "error" }>): string {
  if (reply.kind === "error" && reply.raised) return reply.message;
  return `Cannot render the chat template: ${reply.message}`;
}
