/**
 * How long a template may run, and how much it may write, hold and allocate meanwhile.
 *
 * Counted is what each node of the template makes, so a single operation of the engine can go over
 * once before it is stopped: replacing every character of the longest text by long texts takes up
 * to a gigabyte for a moment.
 */

/** The bounds of one render. */
export interface RenderLimits {
  readonly timeoutMs: number;
  /** Most UTF-16 code units of the rendered text, and of every text on the way to it. */
  readonly outputLengthMax: number;
}

/** A template went over a bound. */
export class RenderLimitError extends Error {
  override name = "RenderLimitError";
}

/** Longest list that a template may build. */
const LIST_LENGTH_MAX = 1_000_000;
/** Entries of all lists that a render builds: about a gigabyte if it keeps every one. */
const LIST_ENTRIES_MAX = 4_000_000;
/** All text that a render makes, as a multiple of what it may write: it is thrown away mostly. */
const TEXT_FACTOR = 64;
/** All text that is printed, likewise: a macro's output is printed once inside and once outside. */
const PRINT_FACTOR = 4;
/** Python's sandbox has the same bound. */
const RANGE_LENGTH_MAX = 100_000;
/**
 * Deeper recursion of macros is a mistake. A thread's stack holds 900 of them where nothing is
 * compiled yet; when it is full, the package takes names for undefined.
 */
const DEPTH_MAX = 450;
/** The clock is looked at once in so many steps. */
const STEPS_PER_LOOK = 256;

/** Counts what one render uses, and throws when it is too much. */
export class RenderBudget {
  #limits: RenderLimits;
  #deadline: number;
  #steps = 0;
  #depth = 0;
  #textLength = 0;
  #printedLength = 0;
  #listEntries = 0;

  constructor(limits: RenderLimits) {
    this.#limits = limits;
    this.#deadline = performance.now() + limits.timeoutMs;
  }

  /** One node of the template is looked at. */
  step(): void {
    if (++this.#steps % STEPS_PER_LOOK === 0) this.#look();
  }

  /** Evaluating goes one node deeper. */
  enter(): void {
    this.step();
    if (++this.#depth > DEPTH_MAX) throw new RenderLimitError("it nests too deeply");
  }

  /** And comes back. */
  leave(): void {
    this.#depth--;
  }

  /** A text exists. */
  checkText(length: number): void {
    if (length > this.#limits.outputLengthMax) throw this.#tooLong();
  }

  /** A text was made. */
  makeText(length: number): void {
    this.#textLength += length;
    if (this.#textLength > this.#limits.outputLengthMax * TEXT_FACTOR) throw this.#tooLong();
  }

  /** A text goes into the output, or into that of a block. */
  print(length: number): void {
    this.#printedLength += length;
    if (this.#printedLength > this.#limits.outputLengthMax * PRINT_FACTOR) throw this.#tooLong();
  }

  /** A list was made. */
  makeList(length: number): void {
    this.#listEntries += length + 1;
    if (length > LIST_LENGTH_MAX || this.#listEntries > LIST_ENTRIES_MAX) {
      throw new RenderLimitError("it builds lists of too many entries");
    }
    if (length > STEPS_PER_LOOK) this.#look(); // what is done with a list may be a single step
  }

  /** Python's `range`, as a list. */
  range(start: number, stop?: number, step = 1): number[] {
    const [from, to] = stop === undefined ? [0, start] : [start, stop];
    if (step === 0) throw new Error("range() needs a step that is not 0");
    const length = Math.max(0, Math.ceil((to - from) / step));
    if (!(length <= RANGE_LENGTH_MAX)) {
      throw new RenderLimitError(`range() makes at most ${RANGE_LENGTH_MAX} numbers`);
    }
    return Array.from({ length }, (_, index) => from + index * step);
  }

  #look(): void {
    if (performance.now() > this.#deadline) throw timeoutError(this.#limits);
  }

  #tooLong(): RenderLimitError {
    return new RenderLimitError(
      `it writes more than ${this.#limits.outputLengthMax} characters`,
    );
  }
}

/** What is said of a template that runs too long, whoever finds out. */
export function timeoutError(limits: RenderLimits): RenderLimitError {
  return new RenderLimitError(`it runs longer than ${limits.timeoutMs} ms`);
}
