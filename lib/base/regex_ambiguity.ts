/**
 * Whether a regular expression that somebody else wrote can take exponential time.
 *
 * An engine that backtracks does so where one text can be matched along very many ways: where a loop
 * leads from one place of the pattern back to it along two ways over the same characters, as in
 * `(a|a)*` or `(a*)*`. The pattern becomes a graph of its characters (Glushkov's automaton), and such
 * a loop is searched for in the graph of pairs. What `(?=…)` and its kin ask for is left out, so a
 * rare pattern is called ambiguous because of ways that they close.
 */

/** A character of a pattern, or a set of them, and what may come after it. */
interface Place {
  /** Which of the sample characters match. */
  readonly set: bigint;
  /** Places behind it; one that is here twice is reached in two ways. */
  readonly next: number[];
}

/** A part of a pattern, as a range of places. */
interface Part {
  readonly first: readonly number[];
  readonly last: readonly number[];
  readonly isNullable: boolean;
}

const NOTHING: Part = { first: [], last: [], isNullable: true };

/** Characters behind ASCII that tell the usual classes apart. */
const SAMPLES =
  "éßµªЖǅʰ中한あاा\u0301\u20dd²१Ⅷ½。“€🚀_\u00a0\u3000\u0085\u2028\ufeff\u200b\ue000\u00ad";

/** More places that lead to each other than this are not looked through. */
const LOOP_LENGTH_MAX = 64;
/** `{2,5}` is five copies; more are a loop as far as time goes. */
const COPIES_MAX = 4;
/** Copies of copies are so many that a pattern of fifty characters would take minutes to read. */
const ATOM_COUNT_MAX = 50_000;
const WAY_COUNT_MAX = 1_000_000;
/** Every character or set of a pattern is tried on every character in it. */
const SAMPLE_COUNT_MAX = 2_000;
/** Groups are read by recursion. */
const DEPTH_MAX = 1_000;

/** There is too much of a pattern to be looked through. */
class TooLargeError extends Error {}

/**
 * Whether `source`, in the syntax of JavaScript, Python or Oniguruma, is such a pattern, or so large
 * a one that nobody can tell. One that cannot be read is none: whoever compiles it will say so.
 */
export function isExponential(source: string): boolean {
  try {
    const places = new Reader(source).read();
    return loops(places).some((loop) => isAmbiguous(places, new Set(loop)));
  } catch (error) {
    if (error instanceof SyntaxError) return false;
    if (error instanceof TooLargeError) return true;
    throw error;
  }
}

/** From a pattern to its places. */
class Reader {
  readonly #source: string;
  readonly #samples: readonly string[];
  readonly #places: Place[] = [];
  readonly #sets = new Map<string, bigint>();
  #at = 0;
  #flags = "";
  #atomCount = 0;
  #wayCount = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
    const ascii = Array.from({ length: 128 }, (_, code) => String.fromCharCode(code));
    this.#samples = [...new Set([...ascii, ...SAMPLES, ...source])];
    if (this.#samples.length > SAMPLE_COUNT_MAX) throw new TooLargeError();
  }

  read(): readonly Place[] {
    this.#alternatives();
    if (this.#at < this.#source.length) throw new SyntaxError("a group is closed twice");
    return this.#places;
  }

  #alternatives(): Part {
    const flags = this.#flags;
    const parts = [this.#sequence()];
    while (this.#take("|")) parts.push(this.#sequence());
    this.#flags = flags;
    return {
      first: parts.flatMap(({ first }) => first),
      last: parts.flatMap(({ last }) => last),
      isNullable: parts.some(({ isNullable }) => isNullable),
    };
  }

  #sequence(): Part {
    let whole = NOTHING;
    while (this.#at < this.#source.length && !/[|)]/.test(this.#source[this.#at]!)) {
      const start = this.#at;
      const atom = this.#atom();
      whole = this.#joined(whole, this.#repeated(atom, start));
    }
    return whole;
  }

  #joined(left: Part, right: Part): Part {
    this.#connect(left.last, right.first);
    return {
      first: left.isNullable ? [...left.first, ...right.first] : left.first,
      last: right.isNullable ? [...left.last, ...right.last] : right.last,
      isNullable: left.isNullable && right.isNullable,
    };
  }

  #connect(from: readonly number[], to: readonly number[]): void {
    this.#wayCount += from.length * to.length;
    if (this.#wayCount > WAY_COUNT_MAX) throw new TooLargeError();
    for (const place of from) this.#places[place]!.next.push(...to);
  }

  /** With the quantifiers behind it. A copy of the part is read from the source once more. */
  #repeated(atom: Part, start: number): Part {
    let part = atom;
    while (true) {
      const [text, star, braces] = this.#match(/([*+?])[+?]?|\{(\d*(?:,\d*)?)\}\??/y) ?? [];
      if (text === undefined) return part;
      const end = this.#at;
      const [low = "", high] = braces === undefined ? [] : braces.split(",");
      const [min, max] = star === "?"
        ? [0, 1]
        : star !== undefined
        ? [star === "*" ? 0 : 1, Infinity]
        : [Number(low), high === undefined ? Number(low) : high === "" ? Infinity : Number(high)];
      if (max > COPIES_MAX) this.#connect(part.last, part.first);
      else {
        part = this.#copied(part, start, { min, max });
        this.#at = end;
      }
      if (min === 0) part = { ...part, isNullable: true };
    }
  }

  /** A copy can be left out with all behind it only: else there were many ways to leave some out. */
  #copied(
    part: Part,
    start: number,
    { min, max }: { readonly min: number; readonly max: number },
  ): Part {
    let [{ last }, { first }] = [part, part];
    let before = part;
    for (let copy = 1; copy < max; copy++) {
      this.#at = start;
      const again = this.#atom();
      this.#connect(before.last, again.first);
      if (part.isNullable) first = [...first, ...again.first];
      last = copy >= min || again.isNullable ? [...last, ...again.last] : again.last;
      before = again;
    }
    return { first, last, isNullable: part.isNullable };
  }

  #atom(): Part {
    if (++this.#atomCount > ATOM_COUNT_MAX) throw new TooLargeError();
    if (this.#take("(")) return this.#group();
    if (this.#match(/[\^$]|\\[bBAzZG]|\\k<[^>]*>|\\[1-9]\d*/y) !== undefined) return NOTHING;
    const [escape] = this.#match(
      /\\(?:[pP]\{[^}]*\}|x\{[^}]*\}|u\{[^}]*\}|x[\da-fA-F]{2}|u[\da-fA-F]{4}|[^])/y,
    ) ?? [];
    if (escape !== undefined) return this.#place(escape);
    if (this.#source[this.#at] === "[") return this.#place(this.#brackets());
    const character = String.fromCodePoint(this.#source.codePointAt(this.#at)!);
    this.#at += character.length;
    return this.#place(/[{}\]/]/.test(character) ? `\\${character}` : character);
  }

  #group(): Part {
    const flags = this.#flags;
    const [open = ""] = this.#match(/\?(?:[=!>:]|<[=!]|P?<[^>]*>|[a-z-]+[:)])/y) ?? [];
    if (open === "" && this.#source[this.#at] === "?") throw new SyntaxError("an unknown group");
    const named = /^\?([a-z]*)-?[a-z]*[:)]$/.exec(open)?.[1];
    if (named !== undefined && named !== "") this.#flags = named.includes("i") ? "i" : "";
    if (open.endsWith(")")) return NOTHING; // from here on
    if (++this.#depth > DEPTH_MAX) throw new TooLargeError();
    const inner = this.#alternatives();
    this.#depth--;
    if (!this.#take(")")) throw new SyntaxError("a group is not closed");
    this.#flags = flags;
    // What only looks has places of its own, and loops in them count; but it matches nothing.
    return /^\?(?:[=!]|<[=!])/.test(open) ? NOTHING : inner;
  }

  /** A class with all classes in it. */
  #brackets(): string {
    const start = this.#at;
    let depth = 0;
    do {
      const [text] = this.#match(/\[\^?\]?|\\[^]|[^]/y) ?? [];
      if (text === undefined) throw new SyntaxError("a class is not closed");
      if (text.startsWith("[")) depth++;
      else if (text === "]") depth--;
    } while (depth > 0);
    return this.#source.slice(start, this.#at);
  }

  #place(atom: string): Part {
    const index = this.#places.push({ set: this.#setOf(atom), next: [] }) - 1;
    return { first: [index], last: [index], isNullable: false };
  }

  /** What cannot be compiled alone has a set that nothing else has. */
  #setOf(atom: string): bigint {
    const key = this.#flags + atom;
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    const expression = compile(atom, this.#flags);
    let set = expression === undefined ? 1n << BigInt(this.#samples.length + this.#sets.size) : 0n;
    this.#samples.forEach((sample, bit) => {
      if (expression?.test(sample)) set |= 1n << BigInt(bit);
    });
    this.#sets.set(key, set);
    return set;
  }

  #take(text: string): boolean {
    const isThere = this.#source.startsWith(text, this.#at);
    if (isThere) this.#at += text.length;
    return isThere;
  }

  #match(pattern: RegExp): (string | undefined)[] | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#source);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return [...match];
  }
}

/** Scripts need no name of their kind in Oniguruma. */
function compile(atom: string, flags: string): RegExp | undefined {
  const scripts = atom.replace(/\\([pP])\{(\w+)\}/g, "\\$1{Script=$2}");
  for (const source of [atom, scripts]) {
    for (const mode of ["v", "u"]) {
      try {
        return new RegExp(`^(?:${source})$`, `${mode}s${flags}`);
      } catch (error) {
        if (!(error instanceof SyntaxError)) throw error; // the next way to write it is tried
      }
    }
  }
  return undefined;
}

/** The groups of places that all lead to each other (Tarjan's algorithm). */
function loops(places: readonly Place[]): number[][] {
  const found: number[][] = [];
  const order = new Map<number, number>();
  const low = new Map<number, number>();
  const open: number[] = [];
  const isOpen = new Set<number>();
  const visit = (root: number): void => {
    const path: { readonly place: number; step: number }[] = [{ place: root, step: 0 }];
    while (path.length > 0) {
      const top = path.at(-1)!;
      const { place } = top;
      if (top.step === 0) {
        order.set(place, order.size);
        low.set(place, order.get(place)!);
        open.push(place);
        isOpen.add(place);
      }
      const next = places[place]!.next[top.step++];
      if (next !== undefined) {
        if (!order.has(next)) path.push({ place: next, step: 0 });
        else if (isOpen.has(next)) low.set(place, Math.min(low.get(place)!, order.get(next)!));
        continue;
      }
      path.pop();
      const above = path.at(-1)?.place;
      if (above !== undefined) low.set(above, Math.min(low.get(above)!, low.get(place)!));
      if (low.get(place) !== order.get(place)) continue;
      const loop = open.splice(open.lastIndexOf(place));
      for (const member of loop) isOpen.delete(member);
      found.push(loop);
    }
  };
  for (const place of places.keys()) if (!order.has(place)) visit(place);
  return found.filter((loop) => loop.length > 1 || places[loop[0]!]!.next.includes(loop[0]!));
}

/** Whether two ways lead around a loop over the same characters. */
function isAmbiguous(places: readonly Place[], loop: ReadonlySet<number>): boolean {
  if (loop.size > LOOP_LENGTH_MAX) return true;
  const nextOf = (place: number) => places[place]!.next.filter((next) => loop.has(next));
  const pairs = new Map<string, readonly (readonly [number, number])[]>();
  const keyOf = ([a, b]: readonly [number, number]) => `${a} ${b}`;
  const waiting = [...loop].map((place): readonly [number, number] => [place, place]);
  const back = new Map<string, string[]>();
  while (waiting.length > 0) {
    const pair = waiting.pop()!;
    const key = keyOf(pair);
    if (pairs.has(key)) continue;
    const [left, right] = pair.map(nextOf) as [number[], number[]];
    if (new Set(left).size < left.length) return true;
    const next = left.flatMap((a) =>
      right.filter((b) => (places[a]!.set & places[b]!.set) !== 0n)
        .map((b): readonly [number, number] => [a, b])
    );
    pairs.set(key, next);
    for (const to of next) {
      back.set(keyOf(to), [...back.get(keyOf(to)) ?? [], key]);
      waiting.push(to);
    }
  }
  // Two ways that have parted and meet again.
  const reached = new Set<string>();
  const behind = [...loop].map((place) => keyOf([place, place]));
  while (behind.length > 0) {
    for (const key of back.get(behind.pop()!) ?? []) {
      const [a, b] = key.split(" ");
      if (a !== b && pairs.has(key)) return true;
      if (!reached.has(key)) behind.push(key);
      reached.add(key);
    }
  }
  return false;
}
