/**
 * A tokenizer's source on its way to another thread, in small pieces.
 *
 * A vocabulary has a hundred thousand entries. Handing it over at once would hold up the thread
 * that sends it for a tenth of a second; a piece takes about a millisecond.
 */

import type { TokenizerSource } from "./gguf_tokenizer.ts";

/** Entries of a vocabulary, or merges, in one piece. */
const PIECE_LENGTH = 4096;

/** A piece of a source. The order of the pieces is that of the entries. */
export type TokenizerPart =
  /** Everything but the model's two long lists. */
  | { readonly kind: "frame"; readonly source: TokenizerSource; readonly file: string }
  /** Of a vocabulary that is an object. */
  | { readonly kind: "tokens"; readonly entries: readonly (readonly [string, unknown])[] }
  /** Of a vocabulary that is a list. */
  | { readonly kind: "pieces"; readonly entries: readonly unknown[] }
  | { readonly kind: "merges"; readonly entries: readonly unknown[] };

/** Cuts a source, which was checked before, into pieces. */
export function* partsOf(source: TokenizerSource, file: string): Generator<TokenizerPart> {
  const json = source.json as Readonly<Record<string, unknown>>;
  const { vocab, merges, ...model } = json["model"] as Readonly<Record<string, unknown>>;
  yield { kind: "frame", source: { ...source, json: { ...json, model } }, file };
  if (Array.isArray(vocab)) {
    for (const entries of slices(vocab)) yield { kind: "pieces", entries };
  } else {
    const record = vocab as Readonly<Record<string, unknown>>;
    for (const names of slices(Object.keys(record))) {
      yield { kind: "tokens", entries: names.map((name) => [name, record[name]] as const) };
    }
  }
  if (!Array.isArray(merges)) return;
  yield { kind: "merges", entries: [] }; // an empty list is not the same as none
  for (const entries of slices(merges)) yield { kind: "merges", entries };
}

function* slices<T>(list: readonly T[]): Generator<readonly T[]> {
  for (let at = 0; at < list.length; at += PIECE_LENGTH) yield list.slice(at, at + PIECE_LENGTH);
}

/** Puts a source together again. */
export class TokenizerParts {
  #frame: Extract<TokenizerPart, { kind: "frame" }> | undefined;
  #tokens: (readonly [string, unknown])[] = [];
  #pieces: unknown[] | undefined;
  #merges: unknown[] | undefined;

  /** Takes the next piece in. */
  add(part: TokenizerPart): void {
    switch (part.kind) {
      case "frame":
        this.#frame = part;
        break;
      case "tokens":
        for (const entry of part.entries) this.#tokens.push(entry);
        break;
      case "pieces":
        this.#pieces ??= [];
        for (const entry of part.entries) this.#pieces.push(entry);
        break;
      case "merges":
        this.#merges ??= [];
        for (const entry of part.entries) this.#merges.push(entry);
        break;
      default:
        part satisfies never;
    }
  }

  /** The whole, when all pieces are in. */
  finish(): { readonly source: TokenizerSource; readonly file: string } {
    const { source, file } = this.#frame as Extract<TokenizerPart, { kind: "frame" }>;
    const json = source.json as Readonly<Record<string, unknown>>;
    const model = {
      ...json["model"] as Readonly<Record<string, unknown>>,
      // Own keys, whatever they are called: a token may be spelled "__proto__".
      vocab: this.#pieces ?? Object.fromEntries(this.#tokens),
      ...(this.#merges === undefined ? {} : { merges: this.#merges }),
    };
    return { source: { ...source, json: { ...json, model } }, file };
  }
}
