/**
 * Who runs in this step, how many tokens each, and who waits.
 *
 * A running request is *decoding* (one token a step, the one chosen last), *prefilling* (its
 * prompt, or after a preemption its prompt and output, in chunks), or a beam that has *had its
 * turn* and waits for the others of its search. A step is filled so:
 *
 * 1. every decoding request, the one that had no turn for longest first
 * 2. prefilling requests, in order of priority and arrival, with what tokens and rows are left
 * 3. waiting requests, in the same order, while sequences, tokens and blocks are left
 *
 * Where 1 leaves nothing for 2 and 3, they go first in the next step, with what 1 does not need or
 * a quarter of the tokens, so that neither side can starve the other. A request is admitted only
 * with blocks for all of its present tokens, so only decoding can run out of blocks; then the
 * running request that comes last in order of priority and arrival is preempted: it gives its
 * blocks back, waits again, and later recomputes what the prefix cache has lost of it. The first
 * in order is never preempted by the others, hence somebody always gets on. Priority is strict:
 * while more urgent requests keep coming, less urgent ones wait.
 *
 * A beam that has had its turn does nothing with its blocks for now, so it is the first to give
 * them up, to beams of its own search and to whoever comes before it; it is *parked* until the
 * search goes on. So a search needs no more room at once than one sequence does.
 *
 * Where layers have a window, blocks come from two pools, and a request is admitted with what its
 * window and a chunk touch of the second one. Its next chunks find room as the window slides, unless
 * others came to share what it gave back: then they preempt like a decoding request.
 */

import { invariant } from "../base/invariant.ts";
import type { BucketKind, StepShape } from "../device/bucket.ts";
import { type BlockCopy, blockCountOf, type KvCache } from "./kv_cache.ts";
import { areSiblings, compareRequests, type Request } from "./request.ts";
import { logitRowCount, rowsOf, type Scheduled } from "./scheduled.ts";

/** What the device can take. The fields are the runner's. */
export interface StepLimits {
  readonly maxBatchSize: number;
  readonly maxTokensPerStep: number;
  readonly maxOutputRows: number;
  /** Steps with several tokens of one sequence reach no further; beyond, tokens go one by one. */
  readonly maxPromptLength: number;
  /** Most tokens of one sequence in one step. */
  readonly prefillChunkSize: number;
  /** Whether a prompt must run in one step, whatever the chunk size. It has room in an empty one. */
  readonly wholePrompts: boolean;
  /** Whether some bucket holds a step. Every turn fits by itself, one token at a time at least. */
  readonly fits: (step: StepShape) => boolean;
}

/** One request's part of a step: its tokens from position `start` on. */
export interface Turn {
  readonly request: Scheduled;
  readonly start: number;
  readonly count: number;
  /** The position of the first token whose row comes back, of logits or of hidden states. */
  readonly rowPosition: number;
  /** The position after the last such token. */
  readonly rowEnd: number;
  /** The index of the first row among all rows of its kind in the step. */
  readonly rowIndex: number;
  /** The blocks of positions 0 … start + count − 1. */
  readonly blockIds: readonly number[];
  /** The same of layers with a window, without blocks where none is seen; empty without such layers. */
  readonly windowBlockIds: readonly number[];
}

/** One step. */
export interface Plan {
  readonly kind: BucketKind;
  readonly turns: readonly Turn[];
  /** Copies of blocks to make before, one after another. */
  readonly copies: readonly BlockCopy[];
}

/** How much of a step prefilling may take when decoding would leave it nothing. */
const HELD_BACK_SHARE = 1 / 4;

/** The queues, and the planning of steps. */
export class Scheduler {
  readonly #kv: KvCache;
  readonly #limits: StepLimits;
  /** In order of priority and arrival. */
  readonly #waiting: Scheduled[] = [];
  readonly #running: Scheduled[] = [];
  #stepIndex = 0;
  /** Decoding left the last step no room for anything else. */
  #prefillStarved = false;
  #preemptionCount = 0;
  #promptTokens = 0;
  #prefixQueryTokens = 0;
  #prefixHitTokens = 0;

  constructor(kv: KvCache, limits: StepLimits) {
    this.#kv = kv;
    this.#limits = limits;
  }

  get waitingCount(): number {
    return this.#waiting.length;
  }

  /** The requests of which some sequence waits. Sequences of one request stand together. */
  get waitingRequestCount(): number {
    return this.#waiting.filter((it, at, all) => at === 0 || !areSiblings(it, all[at - 1]!)).length;
  }

  get runningCount(): number {
    return this.#running.length;
  }

  /** Counters since the start. */
  get counts(): {
    readonly preemptionCount: number;
    readonly promptTokens: number;
    readonly prefixQueryTokens: number;
    readonly prefixHitTokens: number;
  } {
    return {
      preemptionCount: this.#preemptionCount,
      promptTokens: this.#promptTokens,
      prefixQueryTokens: this.#prefixQueryTokens,
      prefixHitTokens: this.#prefixHitTokens,
    };
  }

  /** Lets a request wait for its turn. */
  enqueue(request: Scheduled): void {
    request.state = "waiting";
    const index = this.#waiting.findLastIndex((other) => compareRequests(other, request) < 0);
    this.#waiting.splice(index + 1, 0, request);
  }

  /**
   * Lets a new sequence run on from where another one is, with the same blocks. Where there is no
   * room for one more, it waits and is computed from its tokens later.
   */
  fork(parent: Request, child: Request): void {
    const runningCount = this.#running.length;
    // As with an admission: soon a block for itself, and for each of the others.
    const hasRoom = parent.state === "running" && runningCount < this.#limits.maxBatchSize &&
      this.#kv.hasMoreThan(runningCount);
    if (!hasRoom) return this.enqueue(child);
    this.#kv.fork(parent, child);
    this.#running.push(child);
    child.state = "running";
    child.computedCount = parent.computedCount;
    child.lastStep = parent.lastStep;
  }

  /** Takes a request out for good. `forget`: the contents of its blocks are not to be trusted. */
  remove(request: Scheduled, options: { forget?: boolean } = {}): void {
    if (request.state === "running") {
      this.#kv.free(request, options);
      takeFrom(this.#running, request);
    } else if (request.state === "waiting") {
      takeFrom(this.#waiting, request);
    }
    request.state = "finished";
  }

  /** The next step, or undefined when nobody is here. */
  plan(): Plan | undefined {
    if (this.#running.length + this.#waiting.length === 0) return undefined;
    const draft = new Draft(this.#limits);
    const tokenCount = this.#limits.maxTokensPerStep;
    if (this.#prefillStarved) {
      const decodeCount = this.#running.filter(isDecoding).length;
      const held = Math.max(Math.ceil(tokenCount * HELD_BACK_SHARE), tokenCount - decodeCount);
      this.#planPrefills(draft, held, { mayAdmit: true });
      this.#planDecodes(draft);
      this.#prefillStarved = false;
    } else {
      const preemptionCount = this.#preemptionCount;
      this.#planDecodes(draft);
      const decodeCount = draft.turns.length;
      const wanted = this.#waiting.length > 0 || this.#running.some((it) => it.pendingCount > 1);
      // Whoever was preempted just now would take its blocks back.
      const mayAdmit = this.#preemptionCount === preemptionCount;
      this.#planPrefills(draft, tokenCount, { mayAdmit });
      this.#prefillStarved = wanted && decodeCount > 0 && draft.turns.length === decodeCount;
    }
    // Of those who run, all may be beams whose search waits for one that has just been preempted.
    if (draft.turns.length === 0) this.#planPrefills(draft, tokenCount, { mayAdmit: true });
    invariant(draft.turns.length > 0, "Requests are here, but none of them can run");
    return this.#finish(draft);
  }

  #planDecodes(draft: Draft): void {
    const admitted = draft.turns.map((turn) => turn.request); // may be decoding at once
    const decoding = this.#running
      .filter((request) => isDecoding(request) && !admitted.includes(request))
      .sort((a, b) => a.lastStep - b.lastStep || compareRequests(a, b));
    for (const request of decoding) {
      if (request.state !== "running") continue; // preempted by one before it
      if (draft.countFor(request, 1) === 0) continue;
      if (this.#growOrPreempt(request, 1, draft)) draft.add(request, 1);
    }
  }

  #planPrefills(
    draft: Draft,
    tokenCountMax: number,
    { mayAdmit }: { readonly mayAdmit: boolean },
  ): void {
    const tokenCountEnd = draft.tokenCount + tokenCountMax;
    const add = (request: Scheduled) => {
      const count = draft.countFor(request, tokenCountEnd - draft.tokenCount);
      if (count === 0 || !this.#growOrPreempt(request, count, draft)) return false;
      draft.add(request, count);
      return true;
    };
    const prefilling = this.#running.filter((request) => request.pendingCount > 1)
      .sort(compareRequests);
    for (const request of prefilling) {
      if (request.state === "running") add(request); // else preempted by one before it
    }
    while (mayAdmit && draft.hasRoom && draft.tokenCount < tokenCountEnd) {
      const request = this.#waiting[0];
      if (request === undefined || !this.#admit(request)) break;
      if (!add(request)) break;
    }
  }

  /** Gives a waiting request its blocks. Those behind it never overtake it. */
  #admit(request: Scheduled): boolean {
    let reusedCount = this.#reuse(request);
    while (reusedCount === undefined) {
      const victim = this.#lastIdleFor(request);
      if (victim === undefined) return false;
      this.#preempt(victim);
      reusedCount = this.#reuse(request);
    }
    this.#waiting.shift();
    this.#running.push(request);
    request.state = "running";
    request.computedCount = reusedCount;
    if (request.cachedCount === undefined) {
      request.cachedCount = reusedCount;
      this.#promptTokens += request.promptLength;
      if (this.#kv.enablePrefixCaching) this.#prefixQueryTokens += request.promptLength;
      this.#prefixHitTokens += reusedCount;
    }
    return true;
  }

  /** Tokens that need no computing, if there is room for the request. */
  #reuse(request: Scheduled): number | undefined {
    const runningCount = this.#running.length;
    if (runningCount >= this.#limits.maxBatchSize) return undefined;
    // One more block for each of the others, or they would soon take these back.
    return this.#kv.reuse(request, runningCount);
  }

  /** A beam that has had its turn and gives way to the request. */
  #lastIdleFor(request: Scheduled): Scheduled | undefined {
    return lastOf(
      this.#running.filter((it) =>
        it.pendingCount === 0 && (areSiblings(it, request) || compareRequests(it, request) > 0)
      ),
    );
  }

  /** Blocks for the next tokens, at the cost of whoever comes last; false if that is the request. */
  #growOrPreempt(request: Scheduled, count: number, draft: Draft): boolean {
    while (!this.#kv.grow(request, request.computedCount + count)) {
      const victim = this.#lastIdleFor(request) ?? lastOf(this.#running)!;
      this.#preempt(victim);
      draft.drop(victim);
      if (victim === request) return false;
    }
    return true;
  }

  #preempt(request: Scheduled): void {
    const hasHadTurn = request.pendingCount === 0;
    this.#kv.free(request);
    takeFrom(this.#running, request);
    request.computedCount = 0;
    if (hasHadTurn) request.state = "parked";
    else this.enqueue(request);
    this.#preemptionCount++;
  }

  #finish(draft: Draft): Plan {
    let logitIndex = 0;
    let hiddenIndex = 0;
    const turns = draft.turns.map(({ request, start, count }): Turn => {
      request.lastStep = this.#stepIndex;
      const { from: rowPosition, to: rowEnd } = rowsOf(request, count);
      const blockCount = blockCountOf(start + count);
      const blockIds = this.#kv.blockIds(request).slice(0, blockCount);
      const windowBlockIds = this.#kv.window?.blockIds(request).slice(0, blockCount) ?? [];
      const logitCount = logitRowCount(request, count);
      const rowIndex = logitCount > 0 ? logitIndex : hiddenIndex;
      logitIndex += logitCount;
      hiddenIndex += rowEnd - rowPosition - logitCount;
      return { request, start, count, rowPosition, rowEnd, rowIndex, blockIds, windowBlockIds };
    });
    this.#stepIndex++;
    return { kind: draft.shape.kind, turns, copies: this.#kv.takeCopies() };
  }
}

/** Whoever comes last in order of priority and arrival. */
function lastOf(requests: readonly Scheduled[]): Scheduled | undefined {
  return requests.reduce<Scheduled | undefined>(
    (last, it) => last === undefined || compareRequests(it, last) > 0 ? it : last,
    undefined,
  );
}

function takeFrom(queue: Scheduled[], request: Scheduled): void {
  const index = queue.indexOf(request);
  invariant(index >= 0, "A request is taken from a queue that it is not in");
  queue.splice(index, 1);
}

/** Whether only the token chosen last is missing. A prompt of one token counts: it costs the same. */
function isDecoding(request: Scheduled): boolean {
  return request.pendingCount === 1;
}

interface DraftTurn {
  readonly request: Scheduled;
  readonly start: number;
  readonly count: number;
}

/** A step while it is being filled. */
class Draft {
  turns: DraftTurn[] = [];
  tokenCount = 0;
  #rowCount = 0;
  readonly #limits: StepLimits;

  constructor(limits: StepLimits) {
    this.#limits = limits;
  }

  get hasRoom(): boolean {
    return this.turns.length < this.#limits.maxBatchSize &&
      this.tokenCount < this.#limits.maxTokensPerStep;
  }

  get shape(): StepShape {
    return shapeOf(this.turns);
  }

  /** How many of the request's next tokens, at most `countMax`, still fit. */
  countFor(request: Scheduled, countMax: number): number {
    const limits = this.#limits;
    if (!this.hasRoom) return 0;
    const start = request.computedCount;
    let count = Math.min(
      request.pendingCount,
      countMax,
      limits.maxTokensPerStep - this.tokenCount,
    );
    if (limits.wholePrompts) {
      const isWhole = count === request.pendingCount && this.#fits({ request, start, count });
      return isWhole ? count : 0;
    }
    // Counted one by one: rows begin somewhere among the tokens, or do not count at all.
    const rowsOver = logitRowCount(request, count) - (limits.maxOutputRows - this.#rowCount);
    count = Math.min(
      count - Math.max(0, rowsOver),
      limits.prefillChunkSize,
      Math.max(1, limits.maxPromptLength - start),
    );
    while (count > 0 && !this.#fits({ request, start, count })) count = Math.floor(count / 2);
    return Math.max(count, 0);
  }

  add(request: Scheduled, count: number): void {
    this.turns.push({ request, start: request.computedCount, count });
    this.tokenCount += count;
    this.#rowCount += logitRowCount(request, count);
  }

  /** Takes back the turn of a request that was preempted meanwhile, if it had one. */
  drop(request: Scheduled): void {
    this.turns = this.turns.filter((turn) => turn.request !== request);
    this.tokenCount = this.turns.reduce((sum, turn) => sum + turn.count, 0);
    this.#rowCount = this.turns.reduce(
      (sum, turn) => sum + logitRowCount(turn.request, turn.count),
      0,
    );
  }

  #fits(turn: DraftTurn): boolean {
    const step = shapeOf([...this.turns, turn]);
    return (step.kind === "decode" || step.attentionSize <= this.#limits.maxPromptLength) &&
      this.#limits.fits(step);
  }
}

function shapeOf(turns: readonly DraftTurn[]): StepShape {
  let attentionSize = 0;
  let inputSize = 0;
  let tokenCount = 0;
  for (const { start, count } of turns) {
    attentionSize = Math.max(attentionSize, start + count);
    inputSize = Math.max(inputSize, count);
    tokenCount += count;
  }
  const kind = inputSize === 1
    ? "decode"
    : turns.every((turn) => turn.start === 0)
    ? "prefill"
    : "append";
  return { kind, batchSize: turns.length, attentionSize, inputSize, tokenCount };
}
