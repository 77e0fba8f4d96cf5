/** What a token adds to a text by itself, told from the decoder of its vocabulary. */

import { isRecord } from "../base/record.ts";
import { bytesOfPiece } from "./byte_alphabet.ts";

/** The rules that turn a vocabulary's spelling of a token into bytes. */
export class TokenSpelling {
  readonly #steps: readonly Decoder[];
  /** Whether tokens are pieces of a byte stream, as against pieces of text put together by rules. */
  readonly isByteLevel: boolean;
  /** Whether a token may add more than its spelling. */
  readonly lengthens: boolean;
  readonly #hasByteTokens: boolean;

  /** @param decoder The part of that name of a tokenizer.json. */
  constructor(decoder: unknown) {
    this.#steps = flattenDecoder(decoder);
    this.isByteLevel = this.#steps.length === 1 && this.#steps[0]?.type === "ByteLevel";
    this.lengthens = this.#steps.some(canLengthen);
    this.#hasByteTokens = this.#steps.some(({ type }) => type === "ByteFallback");
  }

  /** The bytes that a token of this spelling adds in the middle of a text. */
  bytes(piece: string): Uint8Array {
    if (this.isByteLevel) return bytesOfPiece(piece) ?? encodeUtf8(piece);
    const byte = this.byteValue(piece);
    if (byte !== undefined) return Uint8Array.of(byte);
    return encodeUtf8(this.#steps.reduce(plainSpelling, piece));
  }

  /** The byte that a spelling like `<0x0A>` stands for; undefined for every other one. */
  byteValue(piece: string): number | undefined {
    if (!this.#hasByteTokens) return undefined;
    const match = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece);
    return match === null ? undefined : parseInt(match[1] as string, 16);
  }
}

/** A text's bytes. */
export function encodeUtf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

/** The text of bytes that are whole characters, else "". */
export function decodeStrictly(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return ""; // the answer to "is it whole?", not a failure
  }
}

interface Decoder {
  readonly type: string;
  readonly [key: string]: unknown;
}

/** A decoder as the list of its steps. */
function flattenDecoder(decoder: unknown): Decoder[] {
  if (!isRecord(decoder)) return [];
  const steps = decoder["decoders"];
  if (decoder["type"] === "Sequence" && Array.isArray(steps)) return steps.flatMap(flattenDecoder);
  return [decoder as Decoder];
}

/** What one step of a decoder makes of a token in the middle of a text, where that is plain. */
function plainSpelling(piece: string, decoder: Decoder): string {
  switch (decoder.type) {
    case "Metaspace":
      return piece.replaceAll(String(decoder["replacement"] ?? "▁"), " ");
    case "Replace": {
      const pattern = isRecord(decoder["pattern"]) ? decoder["pattern"]["String"] : undefined;
      return typeof pattern === "string"
        ? piece.replaceAll(pattern, String(decoder["content"] ?? ""))
        : piece;
    }
    case "WordPiece": {
      const prefix = String(decoder["prefix"] ?? "##");
      return piece.startsWith(prefix) ? piece.slice(prefix.length) : piece;
    }
    default:
      return piece;
  }
}

/** Whether {@linkcode plainSpelling} may make a token longer. */
function canLengthen({ type, pattern, content }: Decoder): boolean {
  if (type !== "Replace" || !isRecord(pattern)) return false;
  return String(content ?? "").length > String(pattern["String"] ?? "").length;
}
