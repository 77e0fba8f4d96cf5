/** JSON in and out: where a broken text breaks, how deep it may nest, and maps that keep their order. */

/** Deeper bodies are refused: nothing honest nests so far, and a template would walk it. */
const NESTING_LIMIT = 128;

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
  checkNesting(text);
  try {
    return JSON.parse(text);
  } catch {
    const position = breakPosition(text);
    throw new JsonError(describeBreak(text, position), position);
  }
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

function checkNesting(text: string): void {
  let depth = 0;
  let inString = false;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (inString) {
      if (code === 0x5c) index++; // a backslash hides the next character
      else if (code === 0x22) inString = false;
    } else if (code === 0x22) {
      inString = true;
    } else if (code === 0x7b || code === 0x5b) {
      if (++depth > NESTING_LIMIT) {
        throw new JsonError(`it nests deeper than ${NESTING_LIMIT} levels`, index);
      }
    } else if (code === 0x7d || code === 0x5d) {
      depth--;
    }
  }
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
