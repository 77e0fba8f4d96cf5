/** Keeps watch over one connection: it ends when nothing arrives, and its failures are told as ours. */

import { TransientError } from "./hub_tries.ts";

/** Ends a connection on which nothing arrives, or that nobody wants any more. */
export class Watch implements Disposable {
  readonly #stalled = new AbortController();
  readonly #stallMs: number;
  readonly #signal: AbortSignal;
  readonly #user: AbortSignal;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(stallMs: number, signal: AbortSignal) {
    this.#stallMs = stallMs;
    this.#user = signal;
    this.#signal = AbortSignal.any([signal, this.#stalled.signal]);
  }

  async fetch(url: URL, headers: Readonly<Record<string, string>>): Promise<Response> {
    this.#feed();
    try {
      return await fetch(url, { redirect: "manual", headers, signal: this.#signal });
    } catch (error) {
      throw this.#explain(error, url);
    }
  }

  /** The chunks of a body; the watch ends with them. */
  async *read(
    body: ReadableStream<Uint8Array<ArrayBuffer>> | null,
  ): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
    try {
      for await (const chunk of body ?? []) {
        // How long the reader takes for a chunk is not the hub's fault.
        clearTimeout(this.#timer);
        yield chunk;
        this.#feed();
      }
    } catch (error) {
      throw this.#explain(error, undefined);
    } finally {
      this[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #feed(): void {
    clearTimeout(this.#timer);
    const seconds = this.#stallMs / 1000;
    this.#timer = setTimeout(
      () => this.#stalled.abort(new TransientError(`nothing arrived for ${seconds} s`)),
      this.#stallMs,
    );
  }

  /** `fetch` and bodies throw TypeErrors when a connection fails; their cause says how. */
  #explain(error: unknown, url: URL | undefined): unknown {
    if (this.#user.aborted) return this.#user.reason;
    if (error instanceof Deno.errors.NotCapable || !(error instanceof TypeError)) return error;
    const { cause } = error;
    const why = cause instanceof Error ? cause.message : error.message;
    // Addresses of a content store carry signatures that are nobody's business.
    const reason = clean(why.replaceAll(/ for url \([^)]*\)/g, ""));
    return new TransientError(
      url === undefined ? reason : `${url.host} cannot be reached: ${reason}`,
      { cause: error, isUnreachable: url !== undefined },
    );
  }
}

/** Text of theirs as a message may show it. */
export function clean(text: string): string {
  // deno-lint-ignore no-control-regex -- they are what is removed
  return text.replaceAll(/[\x00-\x1f\x7f]+/g, " ").slice(0, 200);
}
