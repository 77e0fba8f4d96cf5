/**
 * A strict reader for the JSON inside a safetensors header.
 *
 * `JSON.parse` keeps the last of two equal keys without a word, and an object it makes has a
 * prototype that a name such as `__proto__` can reach. Here objects are maps, equal keys are
 * refused, nesting is bounded, and the only values are the ones a header may hold: objects,
 * arrays, strings and non-negative integers.
 */

/** What a header may hold. */
export type HeaderValue = string | number | HeaderValue[] | Map<string, HeaderValue>;

/** header → entry → shape is the deepest that a valid header goes. */
const DEPTH_MAX = 4;

/** Parses `text`; throws a SyntaxError that says what is wrong and where. */
export function parseHeaderJson(text: string): HeaderValue {
  const reader = new HeaderReader(text);
  const value = reader.value(0);
  reader.end();
  return value;
}

class HeaderReader {
  #at = 0;
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  value(depth: number): HeaderValue {
    if (depth > DEPTH_MAX) this.#fail(`values are nested deeper than ${DEPTH_MAX}`);
    const next = this.#peek();
    if (next === "{") return this.#object(depth);
    if (next === "[") return this.#array(depth);
    if (next === '"') return this.#string();
    return this.#integer();
  }

  end(): void {
    if (this.#peek() !== undefined) this.#fail("there is text after the closing brace");
  }

  #object(depth: number): Map<string, HeaderValue> {
    const entries = new Map<string, HeaderValue>();
    this.#at++;
    if (this.#peek() === "}") {
      this.#at++;
      return entries;
    }
    while (true) {
      if (this.#peek() !== '"') this.#fail("a key in quotes is expected");
      const key = this.#string();
      if (entries.has(key)) this.#fail(`the key ${JSON.stringify(key)} appears twice`);
      if (this.#peek() !== ":") this.#fail('":" is expected');
      this.#at++;
      entries.set(key, this.value(depth + 1));
      if (this.#closes("}")) return entries;
    }
  }

  #array(depth: number): HeaderValue[] {
    const items: HeaderValue[] = [];
    this.#at++;
    if (this.#peek() === "]") {
      this.#at++;
      return items;
    }
    while (true) {
      items.push(this.value(depth + 1));
      if (this.#closes("]")) return items;
    }
  }

  /** Steps over "," (false) or the closing bracket (true). */
  #closes(bracket: "}" | "]"): boolean {
    const next = this.#peek();
    if (next !== "," && next !== bracket) this.#fail(`"," or "${bracket}" is expected`);
    this.#at++;
    return next === bracket;
  }

  #string(): string {
    let end = this.#at + 1;
    while (true) {
      const code = this.#text.charCodeAt(end); // NaN past the end
      if (code === 0x22) break;
      if (code === 0x5c) end++;
      else if (!(code >= 0x20)) this.#fail("a string is not closed or holds a control character");
      end++;
    }
    const quoted = this.#text.slice(this.#at, end + 1);
    if (!quoted.includes("\\")) {
      this.#at = end + 1;
      return quoted.slice(1, -1);
    }
    try {
      const value = JSON.parse(quoted) as string;
      this.#at = end + 1;
      return value;
    } catch {
      this.#fail("a string holds a broken escape");
    }
  }

  #integer(): number {
    const pattern = /-?[\w.+-]+/y;
    pattern.lastIndex = this.#at;
    const word = pattern.exec(this.#text)?.[0] ?? "";
    const value = Number(word);
    if (!/^(0|[1-9][0-9]{0,15})$/.test(word) || !Number.isSafeInteger(value)) {
      const seen = word === "" ? JSON.stringify(this.#text[this.#at] ?? "") : word.slice(0, 40);
      this.#fail(`${seen} stands where an object, array, string or integer ≥ 0 is expected`);
    }
    this.#at += word.length;
    return value;
  }

  /** The next character that is not white space, undefined at the end. */
  #peek(): string | undefined {
    while (true) {
      const code = this.#text.charCodeAt(this.#at);
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) break;
      this.#at++;
    }
    return this.#text[this.#at];
  }

  #fail(what: string): never {
    throw new SyntaxError(`${what} (at character ${this.#at})`);
  }
}
