/** Deltas → the outputs that the caller of an engine asked for: all so far, the new, or the whole. */

import { RequestFold } from "./fold.ts";
import type { GenerationDelta, RequestOutput } from "./outputs.ts";
import type { RequestOutputKind, SamplingParams } from "./sampling/params.ts";

/** One request's outputs. Deltas that came since the last one are told of together. */
export class OutputFeed {
  readonly #kind: RequestOutputKind;
  readonly #fold: RequestFold;
  #hasNews = false;

  constructor({ outputKind = "CUMULATIVE", n = 1 }: SamplingParams) {
    this.#kind = outputKind;
    this.#fold = new RequestFold(n);
  }

  /** Takes the next delta in. */
  add(delta: GenerationDelta): void {
    this.#hasNews = true;
    this.#fold.add(delta);
  }

  /** No more deltas come. Only where there are fewer sequences than asked for is that news. */
  end(): void {
    if (this.#fold.isFinished) return;
    this.#fold.end();
    this.#hasNews ||= this.#fold.isFinished;
  }

  /** The next output; undefined while there is nothing to tell. */
  take(): RequestOutput | undefined {
    if (!this.#hasNews) return undefined;
    if (this.#kind === "FINAL" && !this.#fold.isFinished) return undefined;
    this.#hasNews = false;
    return this.#kind === "DELTA" ? this.#fold.takeNews() : this.#fold.output();
  }
}
