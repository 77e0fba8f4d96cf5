/** JSON in and out: where a broken text breaks, how deep it may nest, and maps that keep their order. */

/** Deeper bodies are refused: nothing honest nests so far, and a template would walk it. */
const NESTING_LIMIT = 128;

/** Values of all arrays and objects together: the ids of a thousand prompts of a thousand tokens. */
const VALUE_COUNT_MAX = 1_048_576;
/** Keys of all objects together: thirty thousand messages. */
const KEY_COUNT_MAX = 131_072;
/** In longer texts nobody looks for the place where they break: that takes a walk over all of them. */
const EXPLAINED_LENGTH_MAX = 1_048_576;

const NESTS_TOO_DEEP = `it nests deeper than ${NESTING_LIMIT} levels`;
const VALUES_TOO_MANY = `it has more than ${VALUE_COUNT_MAX} values`;
const KEYS_TOO_MANY = `it has more than ${KEY_COUNT_MAX} keys`;

/** A text that is not JSON, or nests too deep; `position` counts UTF-16 units from 0. */
export class JsonError extends SyntaxError {
  override name = "JsonError";
  readonly position: number;

  constructor(message: string, position: number) {
    super(message);
    this.position = position;
  }
}

/** Parses JSON; on failure the error says at which character, line and column. */
export function parseJson(text: string): unknown {
  new JsonScan().add(text);
  return parseScannedJson(text);
}

/** The same for a text that went through a {@linkcode JsonScan}, piece by piece. */
export function parseScannedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    if (text.length > EXPLAINED_LENGTH_MAX) {
      throw new JsonError(`a text of ${text.length} characters that is not JSON`, 0);
    }
    const position = breakPosition(text);
    throw new JsonError(describeBreak(text, position), position);
  }
}

/**
 * Looks at a text as it comes in, and throws when parsing it would take too long: parsing cannot be
 * interrupted, and takes its time for brackets, keys and values rather than for long strings.
 */
export class JsonScan {
  #position = 0;
  #depth = 0;
  #keyCount = 0;
  #valueCount = 1;
  #inString = false;
  /** The last piece ended with a backslash, which hides the next character. */
  #isHidden = false;

  /** @throws {JsonError} The text so far nests too deep, or has too many parts. */
  add(piece: string): void {
    if (piece === "") return;
    let index = this.#isHidden ? 1 : 0;
    this.#isHidden = false;
    // Long strings are most of a long body: only their ends and what is hidden in them are looked for.
    let end = -1;
    let escape = -1;
    for (; index < piece.length; index++) {
      const code = piece.charCodeAt(index);
      if (this.#inString) {
        if (end < index) end = indexOrEnd(piece, '"', index);
        if (escape < index) escape = indexOrEnd(piece, "\\", index);
        index = Math.min(end, escape);
        if (index === piece.length) break;
        if (index === end) this.#inString = false;
        else if (++index === piece.length) this.#isHidden = true;
      } else if (code === 0x22) {
        this.#inString = true;
      } else if (code === 0x2c) {
        if (++this.#valueCount > VALUE_COUNT_MAX) this.#fail(VALUES_TOO_MANY, index);
      } else if (code === 0x3a) {
        if (++this.#keyCount > KEY_COUNT_MAX) this.#fail(KEYS_TOO_MANY, index);
      } else if (code === 0x7b || code === 0x5b) {
        if (++this.#depth > NESTING_LIMIT) this.#fail(NESTS_TOO_DEEP, index);
        if (++this.#valueCount > VALUE_COUNT_MAX) this.#fail(VALUES_TOO_MANY, index);
      } else if (code === 0x7d || code === 0x5d) {
        this.#depth--;
      }
    }
    this.#position += piece.length;
  }

  #fail(message: string, index: number): never {
    throw new JsonError(message, this.#position + index);
  }
}

function indexOrEnd(text: string, part: string, from: number): number {
  const index = text.indexOf(part, from);
  return index < 0 ? text.length : index;
}

/**
 * How a number that is a member of the outermost object is written: with all its digits, of which a
 * JavaScript number holds sixteen.
 *
 * @param text JSON that was parsed before
 */
export function memberSource(text: string, name: string): string | undefined {
  const sources = new Map<unknown, string>();
  let outermost: unknown;
  const visit = function (
    this: unknown,
    key: string,
    value: unknown,
    context: { readonly source?: string },
  ): unknown {
    if (key === name && context.source !== undefined) sources.set(this, context.source);
    outermost = value; // it is visited last
    return value;
  };
  JSON.parse(text, visit as (this: unknown, key: string, value: unknown) => unknown);
  return sources.get(outermost);
}

/**
 * Where a text or key is not Unicode, as a dotted path: escapes can spell half of a character, which
 * UTF-8 cannot.
 */
export function brokenTextPath(text: string, value: unknown): string | undefined {
  return /\\u[dD][89a-fA-F]/.test(text) ? findBrokenText(value, []) : undefined;
}

function findBrokenText(value: unknown, path: readonly string[]): string | undefined {
  if (typeof value === "string") return value.isWellFormed() ? undefined : path.join(".");
  if (typeof value !== "object" || value === null) return undefined;
  for (const [key, item] of Object.entries(value)) {
    const below = [...path, key.toWellFormed()];
    const found = key.isWellFormed() ? findBrokenText(item, below) : below.join(".");
    if (found !== undefined) return found;
  }
  return undefined;
}

/** Writes JSON without spaces. A `Map` becomes an object whose keys keep the map's order, numbers too. */
export function writeJson(value: unknown): string {
  if (value instanceof Map) {
    return writeObject(value);
  } else if (Array.isArray(value)) {
    // Vectors and token ids are long, and the engine's own writer is ten times as fast.
    if (value.every((item) => typeof item !== "object")) return JSON.stringify(value);
    return `[${value.map((item) => writeJson(item ?? null)).join(",")}]`;
  } else if (typeof value === "object" && value !== null) {
    return writeObject(Object.entries(value));
  }
  return JSON.stringify(value) ?? "null";
}

/** A JSON answer. */
export function jsonResponse(value: unknown): Response {
  return new Response(writeJson(value), { headers: { "content-type": "application/json" } });
}

function writeObject(entries: Iterable<readonly [string, unknown]>): string {
  const members: string[] = [];
  for (const [key, value] of entries) {
    if (value !== undefined) members.push(`${JSON.stringify(key)}:${writeJson(value)}`);
  }
  return `{${members.join(",")}}`;
}

function describeBreak(text: string, position: number): string {
  const before = text.slice(0, position).split("\n");
  const column = (before.at(-1) ?? "").length + 1;
  const where = `line ${before.length} column ${column} (char ${position})`;
  if (position >= text.length) return `the text ends too early: ${where}`;
  return `unexpected ${
    JSON.stringify(String.fromCodePoint(text.codePointAt(position) ?? 0))
  }: ${where}`;
}

type Expected = "value" | "value or ]" | "key" | "key or }" | "colon" | "comma or end";

/**
 * The first place where the text cannot go on as JSON. `JSON.parse` names a position only in some
 * of its messages, so a text it refused is walked once more with a stack of open brackets.
 */
function breakPosition(text: string): number {
  const word = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null/y;
  const open: string[] = [];
  let expected: Expected = "value";
  let position = 0;
  while (true) {
    while (" \t\n\r".includes(text[position] ?? "x")) position++;
    const mark = text[position];
    if (mark === undefined) return position;
    if (expected === "colon") {
      if (mark !== ":") return position;
      expected = "value";
      position++;
    } else if (expected === "comma or end") {
      const inside = open.at(-1);
      if (mark === "," && inside !== undefined) expected = inside === "{" ? "key" : "value";
      else if ((mark === "}" && inside === "{") || (mark === "]" && inside === "[")) open.pop();
      else return position;
      position++;
    } else if (
      (mark === "}" && expected === "key or }") || (mark === "]" && expected === "value or ]")
    ) {
      open.pop();
      expected = "comma or end";
      position++;
    } else if (mark === '"') {
      const end = stringEnd(text, position);
      if (text[end] !== '"') return end;
      expected = expected.startsWith("key") ? "colon" : "comma or end";
      position = end + 1;
    } else if (expected.startsWith("key")) {
      return position;
    } else if (mark === "{" || mark === "[") {
      open.push(mark);
      expected = mark === "{" ? "key or }" : "value or ]";
      position++;
    } else {
      word.lastIndex = position;
      if (!word.test(text)) return position;
      expected = "comma or end";
      position = word.lastIndex;
    }
  }
}

/** Where the string that opens at `start` closes, or the first character that cannot be in it. */
function stringEnd(text: string, start: number): number {
  const escape = /\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})/y;
  let position = start + 1;
  while (position < text.length) {
    const code = text.charCodeAt(position);
    if (code === 0x22 || code < 0x20) return position;
    if (code === 0x5c) {
      escape.lastIndex = position;
      if (!escape.test(text)) return position;
      position = escape.lastIndex;
    } else {
      position++;
    }
  }
  return position;
}
