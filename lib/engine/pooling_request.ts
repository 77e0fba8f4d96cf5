/**
 * A request for hidden states instead of tokens: its prompt, how far it is computed, and the rows
 * that were taken so far.
 *
 * It goes through the scheduler like a prompt that is prefilled, and ends when the last row that is
 * wanted has come. A row is the hidden state of one prompt token after the model's final norm.
 */

import { InvalidLogitsError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import type { RequestLimits, RequestState } from "./request.ts";
import { type RequestReport, RequestTimes } from "./request_metrics.ts";

/**
 * Which hidden states of a prompt are wanted: that of its first token, of its last one, one row a
 * token, or the mean of all of them as one row. For the mean, rows are added up in the order of
 * their positions as they come, in float64; none of them is kept.
 */
export type PoolingRows = "first" | "last" | "all" | "mean";

/** What is asked of the engine: token ids in, hidden states out. */
export interface EnginePoolingRequest {
  /** Names the request to `abort`. No two unfinished requests share one. */
  readonly id: string;
  readonly promptTokenIds: readonly number[];
  /** The segment of each prompt token, where the model has segments. Default: 0 for all. */
  readonly tokenTypeIds?: readonly number[];
  readonly rows: PoolingRows;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
  /** Cached blocks are shared only with requests of the same salt. Default: with those of none. */
  readonly cacheSalt?: string | undefined;
  /** Told how it went, when it has ended. Must not throw. */
  readonly onEnd?: ((report: RequestReport) => void) | undefined;
}

/** What comes of it. */
export interface PoolingOutput {
  /** Rows of float32 [hiddenSize], the caller's to keep: one a prompt token for "all", else one. */
  readonly rows: readonly Float32Array[];
  /** Prompt tokens whose keys and values came from the prefix cache. */
  readonly cachedTokens: number;
}

/** Where the engine reports how a request ended. */
interface Outcome {
  resolve(output: PoolingOutput): void;
  reject(error: unknown): void;
}

/** A pooling request inside the engine. */
export class PoolingRequest {
  readonly id: string;
  readonly priority: number;
  readonly cacheSalt: string | undefined;
  readonly onEnd: EnginePoolingRequest["onEnd"];
  readonly arrival: number;
  /** Its place among the sequences of its request: it is the only one. */
  readonly index = 0;
  readonly promptLength: number;
  /** The prompt; it never grows. */
  readonly tokenIds: readonly number[];
  readonly tokenTypeIds: readonly number[] | undefined;
  state: RequestState = "waiting";
  /** Tokens whose keys and values are in the block table. */
  computedCount = 0;
  /** Prompt tokens that the first admission found in the prefix cache; later ones do not count. */
  cachedCount: number | undefined;
  /** The step in which it last had a turn. */
  lastStep = -1;
  readonly times: RequestTimes;
  /** How it ends without a result: both do nothing once it has one. */
  readonly channel: { close(): void; fail(error: unknown): void };
  /** The sequences that have not ended, as a request for tokens has them. */
  readonly members: ReadonlySet<PoolingRequest> = new Set([this]);
  readonly #kind: PoolingRows;
  readonly #outcome: Outcome;
  readonly #rows: Float32Array[] = [];
  #sum: Float64Array | undefined;
  #nextPosition: number;

  constructor(
    request: EnginePoolingRequest,
    { arrival, arrivedMs }: Pick<RequestLimits, "arrival" | "arrivedMs">,
    outcome: Outcome,
  ) {
    const { id, promptTokenIds, tokenTypeIds, rows, priority = 0, cacheSalt, onEnd } = request;
    this.id = id;
    this.priority = priority;
    this.cacheSalt = cacheSalt;
    this.onEnd = onEnd;
    this.arrival = arrival;
    this.times = new RequestTimes(arrivedMs);
    this.promptLength = promptTokenIds.length;
    this.tokenIds = [...promptTokenIds];
    this.tokenTypeIds = tokenTypeIds && [...tokenTypeIds];
    this.#kind = rows;
    this.#outcome = outcome;
    this.#nextPosition = rows === "last" ? this.promptLength - 1 : 0;
    this.channel = {
      close: () => outcome.reject(new DOMException("The request was aborted", "AbortError")),
      fail: (error) => outcome.reject(error),
    };
  }

  /** Tokens still to be computed. */
  get pendingCount(): number {
    return this.tokenIds.length - this.computedCount;
  }

  /**
   * The first position whose row is still needed: everything before it may come from the prefix
   * cache. It moves on as rows are taken, so what is computed again after a preemption is not
   * taken twice.
   */
  get firstRowPosition(): number {
    return this.#nextPosition;
  }

  /** The position after the last one whose row is needed. */
  get endRowPosition(): number {
    return this.#kind === "first" ? 1 : this.promptLength;
  }

  /** Whether all rows were taken. */
  get isComplete(): boolean {
    return this.#nextPosition === this.endRowPosition;
  }

  /**
   * Takes in the row of {@linkcode firstRowPosition}; copies what it keeps.
   *
   * @throws {InvalidLogitsError} It holds something that is not a number.
   */
  take(row: Float32Array): void {
    invariant(!this.isComplete, "A pooling request is given a row more than it wants");
    if (!row.every(Number.isFinite)) {
      throw new InvalidLogitsError(
        `The hidden state of prompt token ${this.#nextPosition} is not finite`,
      );
    }
    if (this.#kind === "mean") this.#sum = addTo(this.#sum, row);
    else this.#rows.push(row.slice());
    this.#nextPosition++;
  }

  /** Hands the result over. */
  finish(): void {
    invariant(this.isComplete, "A pooling request ends before all its rows were taken");
    const rows = this.#sum === undefined
      ? this.#rows
      : [Float32Array.from(this.#sum, (sum) => sum / this.promptLength)];
    this.#outcome.resolve({ rows, cachedTokens: this.cachedCount ?? 0 });
  }
}

function addTo(sum: Float64Array | undefined, row: Float32Array): Float64Array {
  if (sum === undefined) return Float64Array.from(row);
  for (let i = 0; i < row.length; i++) sum[i] = sum[i]! + row[i]!;
  return sum;
}
