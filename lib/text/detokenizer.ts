/**
 * Token ids → text while they come, whole characters only.
 *
 * A vocabulary of bytes is easy: the bytes of every token go through one streaming UTF-8 decoder.
 * Other vocabularies put text together by rules that look at a token's neighbours (a space before
 * a word, none at the very beginning), so there the last few tokens are decoded with and without
 * the new one, and the difference is the new text:
 *
 *     window:  [ … tokens of the prefix … | … tokens waiting … ]   decoded: prefix + new text
 *
 * What a sequence leaves incomplete at its very end is dropped. There is no other path for whole
 * texts: they are the fold of this one.
 */

import type { Tokenizer } from "./tokenizer.ts";

/** How a sequence of ids becomes text. */
export interface DetokenizerOptions {
  /** The ids before the first one pushed: they decide on leading spaces and begun characters. */
  readonly promptIds: readonly number[];
  /** Leave special tokens out of the text. */
  readonly skipSpecialTokens: boolean;
}

/** As many prompt tokens as any vocabulary needs to know what comes before; some have no bytes. */
const PROMPT_TAIL = 8;

/** The text of one sequence, as it grows. */
export class Detokenizer {
  #steps: Steps;
  #tokenizer: Tokenizer;
  #skipSpecialTokens: boolean;

  constructor(tokenizer: Tokenizer, options: DetokenizerOptions) {
    this.#tokenizer = tokenizer;
    this.#skipSpecialTokens = options.skipSpecialTokens;
    const prompt = options.promptIds.slice(-PROMPT_TAIL).filter((id) => this.#isShown(id));
    this.#steps = tokenizer.isByteLevel
      ? new ByteSteps(tokenizer, prompt)
      : new WindowSteps(tokenizer, prompt);
  }

  /** The text that `ids` complete; "" while a character is incomplete. */
  push(ids: readonly number[]): string {
    let text = "";
    for (const id of ids) if (this.#isShown(id)) text += this.#steps.push(id);
    return text;
  }

  /** The text held back so far. Incomplete characters are dropped, so this adds nothing to them. */
  finish(): string {
    return "";
  }

  #isShown(id: number): boolean {
    if (this.#skipSpecialTokens && this.#tokenizer.isSpecial(id)) return false;
    return this.#tokenizer.tokenString(id) !== "";
  }
}

/** The text of a whole sequence: exactly what streaming it gives. */
export function decodeWhole(
  tokenizer: Tokenizer,
  ids: readonly number[],
  options: DetokenizerOptions,
): string {
  const detokenizer = new Detokenizer(tokenizer, options);
  return detokenizer.push(ids) + detokenizer.finish();
}

interface Steps {
  /** The text that one more token completes. */
  push(id: number): string;
}

/** Tokens as pieces of one byte stream. */
class ByteSteps implements Steps {
  #tokenizer: Tokenizer;
  #decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });

  constructor(tokenizer: Tokenizer, prompt: readonly number[]) {
    this.#tokenizer = tokenizer;
    for (const id of prompt) this.push(id); // leaves at most a character that the prompt began
  }

  push(id: number): string {
    return this.#decoder.decode(this.#tokenizer.tokenBytes(id), { stream: true });
  }
}

/** Tokens as pieces that are put together by rules. */
class WindowSteps implements Steps {
  #tokenizer: Tokenizer;
  #window: number[];
  /** The decoded text of the first `#prefixCount` tokens of the window: given out already. */
  #prefix: string;
  #prefixCount: number;

  constructor(tokenizer: Tokenizer, prompt: readonly number[]) {
    this.#tokenizer = tokenizer;
    this.#window = [...prompt];
    // A character that the prompt began is not part of what was given out.
    this.#prefixCount = prompt.length - this.#incompleteTail();
    this.#prefix = this.#decode(this.#window.slice(0, this.#prefixCount));
  }

  push(id: number): string {
    this.#window.push(id);
    if (this.#incompleteTail() > 0) return "";
    let text = this.#decode(this.#window);
    if (!text.startsWith(this.#prefix)) {
      // The new token changed text that is out already: go on from this token alone.
      this.#window = [id];
      this.#prefix = "";
      this.#prefixCount = 0;
      text = this.#decode(this.#window);
    }
    const added = text.slice(this.#prefix.length);
    // The window moves on only over tokens with text: one without says nothing about spaces.
    if (added === "") return "";
    this.#window = this.#window.slice(this.#prefixCount);
    this.#prefixCount = this.#window.length;
    this.#prefix = this.#decode(this.#window);
    return added;
  }

  #decode(ids: readonly number[]): string {
    return this.#tokenizer.decode(ids, { skipSpecialTokens: false });
  }

  /** How many byte tokens at the end of the window are the beginning of a character. */
  #incompleteTail(): number {
    const bytes: number[] = [];
    for (let i = this.#window.length - 1; i >= 0 && bytes.length < 4; i--) {
      const byte = this.#tokenizer.byteValue(this.#window[i] as number);
      if (byte === undefined) break;
      bytes.unshift(byte);
    }
    return incompleteTail(bytes);
  }
}

/** How many bytes at the end begin a character that valid bytes could still complete. */
function incompleteTail(bytes: readonly number[]): number {
  for (let count = 1; count <= Math.min(3, bytes.length); count++) {
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const tail = Uint8Array.from(bytes.slice(bytes.length - count));
    if ((tail[0] as number) < 0xc2) continue; // not the first byte of a longer character
    try {
      // Nothing thrown and nothing decoded: the decoder waits for more.
      return decoder.decode(tail, { stream: true }) === "" ? count : 0;
    } catch {
      return 0; // bytes that no further byte makes valid
    }
  }
  return 0;
}
