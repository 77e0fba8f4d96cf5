/**
 * A tokenizer that never holds up the thread it is called on.
 *
 * Encoding takes about a millisecond a kilobyte. Short texts are encoded where they come in, which
 * is faster than sending them away; but only as long as the allowance lasts. The allowance is a
 * bucket of 16,384 characters that fills up again over 160 ms, so no single text, no thousand texts
 * of one request and no thousand requests take more of this thread than that.
 */

import { forcedTokenIds } from "./forced_text.ts";
import type { Tokenizer } from "./tokenizer.ts";
import {
  type TokenizerRequest,
  type TokenizerResult,
  TokenizerThread,
  type TokenizerThreadOptions,
} from "./tokenizer_thread.ts";

/** Characters (UTF-16 code units), or ids to decode, that are worked on here at once. */
export const ALLOWANCE_MAX = 16_384;
/** What comes back to the allowance in a millisecond. */
const ALLOWANCE_PER_MS = ALLOWANCE_MAX / 160;
/** A forced text is encoded and, token by token, decoded again. */
const FORCED_FACTOR = 4;
/** As many ids before a forced text as anything about it can depend on. */
const PROMPT_TAIL = 64;

/** What a call takes besides its text. */
interface CallOptions {
  /** Ends the waiting. Calls that share a signal share a place in the queue. */
  readonly signal?: AbortSignal | undefined;
}

/** See the file's header. Close it: the thread is a resource. */
export class BackgroundTokenizer implements Disposable {
  /** The same on the calling thread. */
  readonly tokenizer: Tokenizer;
  readonly #thread: TokenizerThread;
  #allowance = ALLOWANCE_MAX;
  #filledAt: number = performance.now();

  constructor(tokenizer: Tokenizer, options: TokenizerThreadOptions = {}) {
    this.tokenizer = tokenizer;
    this.#thread = new TokenizerThread(tokenizer, options);
  }

  /** As {@linkcode Tokenizer.encode}; what it gives at once was done here. */
  encode(
    text: string,
    options: CallOptions & { readonly addSpecialTokens: boolean },
  ): number[] | Promise<number[]> {
    if (this.#spend(text.length)) return this.tokenizer.encode(text, options);
    const { addSpecialTokens, signal } = options;
    return this.#ids({ kind: "encode", text, addSpecialTokens }, signal);
  }

  /** As {@linkcode Tokenizer.decode}. */
  decode(
    ids: readonly number[],
    options: CallOptions & { readonly skipSpecialTokens: boolean },
  ): string | Promise<string> {
    if (this.#spend(ids.length)) return this.tokenizer.decode(ids, options);
    const { skipSpecialTokens, signal } = options;
    const request = { kind: "decode", ids: Int32Array.from(ids), skipSpecialTokens } as const;
    return this.#thread.ask(request, signal)
      .then((result) => (result as Extract<TokenizerResult, { kind: "text" }>).text);
  }

  /** As {@linkcode forcedTokenIds}. */
  forcedTokenIds(
    text: string,
    promptTokenIds: readonly number[],
    { signal }: CallOptions,
  ): number[] | Promise<number[]> {
    if (this.#spend(text.length * FORCED_FACTOR)) {
      return forcedTokenIds(text, this.tokenizer, promptTokenIds);
    }
    const promptTail = promptTokenIds.slice(-PROMPT_TAIL);
    return this.#ids({ kind: "force", text, promptTail }, signal);
  }

  /** Ends the thread; what waits is rejected with a `ClosedError`. */
  close(): void {
    this.#thread.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Whether there is allowance for so much, which is then used. */
  #spend(cost: number): boolean {
    const now = performance.now();
    const filled = this.#allowance + (now - this.#filledAt) * ALLOWANCE_PER_MS;
    this.#allowance = Math.min(ALLOWANCE_MAX, filled);
    this.#filledAt = now;
    if (cost > this.#allowance) return false;
    this.#allowance -= cost;
    return true;
  }

  async #ids(request: TokenizerRequest, signal: AbortSignal | undefined): Promise<number[]> {
    const result = await this.#thread.ask(request, signal);
    return Array.from((result as Extract<TokenizerResult, { kind: "ids" }>).ids);
  }
}
