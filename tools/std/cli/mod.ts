/**
 * The part of `@std/cli/parse-args` that this repository uses, for places JSR cannot be reached from.
 *
 * Left out: dotted keys that make nested objects, and the types inferred from the options.
 */

/** What {@linkcode parseArgs} takes besides the arguments. */
export interface ParseOptions {
  /** Put what follows `--` under the key `"--"` instead of among the rest. Default false. */
  readonly "--"?: boolean;
  /** Names that stand for other names. */
  readonly alias?: Readonly<Record<string, string | readonly string[]>>;
  /** Flags without a value; `true`: every double-dashed flag without `=`. They are false when absent. */
  readonly boolean?: boolean | string | readonly string[];
  /** Flags that may come several times and are always arrays. */
  readonly collect?: string | readonly string[];
  /** Values of absent flags. */
  readonly default?: Readonly<Record<string, unknown>>;
  /** Flags that `--no-<name>` sets to false. */
  readonly negatable?: string | readonly string[];
  /** Put everything after the first word that is no flag among the rest. Default false. */
  readonly stopEarly?: boolean;
  /** Flags whose value stays text; `"_"`: so do the rest. Without a value they are `""`. */
  readonly string?: string | readonly string[];
  /** Asked about every flag that no option names, and every word; `false` drops it. */
  readonly unknown?: (arg: string, key?: string, value?: unknown) => unknown;
}

/** The flags by name; the rest of the words under `_`. */
export interface Args {
  [name: string]: unknown;
  _: (string | number)[];
}

const FLAG = /^-(?:(?<double>-)(?<negated>no-)?)?(?<key>.+?)(?:=(?<value>.*))?$/s;
const NUMBER = /^[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?$/;
const HEXADECIMAL = /^0x[0-9a-f]+$/i;

/** Takes command line arguments apart. */
export function parseArgs(args: readonly string[], options: ParseOptions = {}): Args {
  return new Parser(options).parse(args);
}

class Parser {
  readonly #options: ParseOptions;
  readonly #booleans: ReadonlySet<string>;
  readonly #strings: ReadonlySet<string>;
  readonly #collected: ReadonlySet<string>;
  readonly #negatable: ReadonlySet<string>;
  /** Every name of a flag → all its names. */
  readonly #names = new Map<string, readonly string[]>();
  readonly #result: Args = { _: [] };

  constructor(options: ParseOptions) {
    this.#options = options;
    for (const [key, others] of Object.entries(options.alias ?? {})) {
      const names = [key, ...list(others)];
      for (const name of names) this.#names.set(name, names);
    }
    const { boolean } = options;
    this.#booleans = this.#withAliases(typeof boolean === "boolean" ? [] : list(boolean));
    this.#strings = this.#withAliases(list(options.string));
    this.#collected = this.#withAliases(list(options.collect));
    this.#negatable = this.#withAliases(list(options.negatable));
  }

  parse(args: readonly string[]): Args {
    const end = args.indexOf("--");
    const words = end === -1 ? args : args.slice(0, end);
    let index = 0;
    while (index < words.length) {
      const word = words[index] as string;
      if (word.startsWith("-") && word !== "-") {
        index += this.#flag(word, words[index + 1]);
      } else {
        index++;
        if (this.#options.unknown?.(word) !== false) this.#rest(word);
        if (this.#options.stopEarly) {
          for (const after of words.slice(index)) this.#rest(after);
          break;
        }
      }
    }
    this.#fillIn();
    const after = end === -1 ? [] : args.slice(end + 1);
    if (this.#options["--"]) this.#result["--"] = [...after];
    else for (const word of after) this.#rest(word);
    return this.#result;
  }

  /** Takes one flag in, and says how many words it used. */
  #flag(word: string, next: string | undefined): number {
    const groups = FLAG.exec(word)?.groups ?? {};
    const { double, negated, value } = groups;
    let key = groups["key"] ?? "";
    if (double === undefined) return this.#letters(word, next);
    if (negated !== undefined && value === undefined && this.#negatable.has(key)) {
      this.#set(key, false, word);
      return 1;
    }
    if (negated !== undefined) key = `no-${key}`;
    if (value !== undefined) {
      this.#set(key, this.#booleans.has(key) ? value !== "false" : value, word);
      return 1;
    }
    return this.#withNext(key, word, next);
  }

  /** `-p 80`, `-p80`, `-p=80`, `-abc`. */
  #letters(word: string, next: string | undefined): number {
    const letters = word.slice(1);
    for (let at = 0; at < letters.length - 1; at++) {
      const key = letters[at] as string;
      const after = letters.slice(at + 1);
      const isValue = after.startsWith("=") || NUMBER.test(after) ||
        (this.#strings.has(key) && !this.#booleans.has(key));
      if (isValue) {
        this.#set(key, after.replace(/^=/, ""), word);
        return 1;
      }
      this.#set(key, true, word);
    }
    return this.#withNext(letters.at(-1) ?? "", word, next);
  }

  #withNext(key: string, word: string, next: string | undefined): number {
    const isBoolean = this.#booleans.has(key) ||
      (this.#options.boolean === true && word.startsWith("--"));
    if (next !== undefined && !next.startsWith("-") && !isBoolean) {
      this.#set(key, next, word);
      return 2;
    }
    if (isBoolean && (next === "true" || next === "false")) {
      this.#set(key, next === "true", word);
      return 2;
    }
    this.#set(key, this.#strings.has(key) ? "" : true, word);
    return 1;
  }

  #set(key: string, value: unknown, word: string): void {
    const known = this.#booleans.has(key) || this.#strings.has(key) || this.#collected.has(key) ||
      this.#negatable.has(key) || this.#names.has(key) || this.#options.boolean === true ||
      Object.hasOwn(this.#options.default ?? {}, key);
    if (!known && this.#options.unknown?.(word, key, value) === false) return;
    const kept = this.#strings.has(key) ? value : toNumber(value);
    for (const name of this.#names.get(key) ?? [key]) {
      const before = this.#result[name];
      this.#result[name] = this.#collected.has(name)
        ? [...Array.isArray(before) ? before : [], kept]
        : kept;
    }
  }

  #rest(word: string): void {
    this.#result._.push(this.#strings.has("_") ? word : toNumber(word) as string | number);
  }

  #fillIn(): void {
    for (const [key, value] of Object.entries(this.#options.default ?? {})) {
      for (const name of this.#names.get(key) ?? [key]) this.#result[name] ??= value;
    }
    for (const key of this.#collected) this.#result[key] ??= [];
    for (const key of this.#booleans) this.#result[key] ??= false;
  }

  #withAliases(names: readonly string[]): ReadonlySet<string> {
    return new Set(names.flatMap((name) => this.#names.get(name) ?? [name]));
  }
}

function list(names: string | readonly string[] | undefined): readonly string[] {
  return names === undefined ? [] : typeof names === "string" ? [names] : names;
}

function toNumber(value: unknown): unknown {
  return typeof value === "string" && (NUMBER.test(value) || HEXADECIMAL.test(value))
    ? Number(value)
    : value;
}
