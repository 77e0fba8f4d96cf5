/** Little-endian values, one after another, read through a window of bounded size. */

import { CheckpointError } from "../../base/errors.ts";
import type { ByteSource } from "./byte_source.ts";

const WINDOW_SIZE_BYTES = 1024 * 1024;
/** Longer strings are decoded by the platform: below it, its call costs more than the work. */
const SHORT_STRING_BYTES = 48;

/** A place in a source that moves forward. `what` names the value for the error message. */
export class ByteCursor {
  readonly #source: ByteSource;
  readonly #window: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  /** Where in the source the window begins, how much of it is filled, and how far it is read. */
  #windowPosition = 0;
  #filled = 0;
  #at = 0;

  constructor(source: ByteSource) {
    this.#source = source;
    this.#window = new Uint8Array(Math.min(WINDOW_SIZE_BYTES, source.sizeBytes));
    this.#view = new DataView(this.#window.buffer);
  }

  get sizeBytes(): number {
    return this.#source.sizeBytes;
  }

  get position(): number {
    return this.#windowPosition + this.#at;
  }

  get remainingBytes(): number {
    return this.sizeBytes - this.position;
  }

  u8(what: string): number {
    return this.#window[this.#take(1, what)] as number;
  }

  u16(what: string): number {
    return this.#view.getUint16(this.#take(2, what), true);
  }

  u32(what: string): number {
    return this.#view.getUint32(this.#take(4, what), true);
  }

  /** A bigint only where a number would not be exact. */
  u64(what: string): number | bigint {
    return narrow(this.#view.getBigUint64(this.#take(8, what), true));
  }

  i64(what: string): number | bigint {
    return narrow(this.#view.getBigInt64(this.#take(8, what), true));
  }

  f32(what: string): number {
    return this.#view.getFloat32(this.#take(4, what), true);
  }

  f64(what: string): number {
    return this.#view.getFloat64(this.#take(8, what), true);
  }

  /** A length in 8 bytes, and that many bytes of UTF-8. */
  string(what: string, sizeMaxBytes: number): string {
    const start = this.#take(8, what);
    const size = this.#view.getUint32(start, true) +
      this.#view.getUint32(start + 4, true) * 0x1_0000_0000;
    if (size > this.remainingBytes) {
      this.fail(`${quote(what)} claims ${size} bytes, but only ${this.remainingBytes} are left`);
    }
    if (size > sizeMaxBytes) {
      this.fail(`${quote(what)} has ${size} bytes: at most ${sizeMaxBytes} can be read`);
    }
    return size > this.#window.byteLength
      ? this.#longString(what, size)
      : this.#shortString(what, size);
  }

  fail(message: string, cause?: unknown): never {
    const { name } = this.#source;
    throw new CheckpointError(name, `Cannot read "${name}": ${message}`, { cause });
  }

  #shortString(what: string, size: number): string {
    const start = this.#take(size, what);
    if (size <= SHORT_STRING_BYTES) {
      const text = decodeTwoByteUtf8(this.#window, start, start + size);
      if (text !== undefined) return text;
    }
    return this.#decode(this.#window.subarray(start, start + size), what);
  }

  #longString(what: string, size: number): string {
    const bytes = new Uint8Array(size);
    const { position } = this;
    this.#source.readAt(position, bytes);
    this.#windowPosition = position + size;
    this.#filled = this.#at = 0;
    return this.#decode(bytes, what);
  }

  #decode(bytes: Uint8Array<ArrayBuffer>, what: string): string {
    try {
      return this.#decoder.decode(bytes);
    } catch (error) {
      this.fail(`${quote(what)} is not valid UTF-8`, error);
    }
  }

  /** Steps over `size` bytes, at most a window, and says where in the window they are. */
  #take(size: number, what: string): number {
    if (this.#at + size > this.#filled) this.#refill(size, what);
    const start = this.#at;
    this.#at += size;
    return start;
  }

  #refill(size: number, what: string): void {
    const { position, remainingBytes } = this;
    if (size > remainingBytes) {
      this.fail(`it is truncated: it ends at byte ${this.sizeBytes}, inside ${quote(what)}`);
    }
    this.#windowPosition = position;
    this.#filled = Math.min(this.#window.byteLength, remainingBytes);
    this.#at = 0;
    this.#source.readAt(position, this.#window.subarray(0, this.#filled));
  }
}

/** Decodes characters of one and two bytes; undefined if there is anything else. */
function decodeTwoByteUtf8(bytes: Uint8Array, start: number, end: number): string | undefined {
  let text = "";
  for (let at = start; at < end; at++) {
    const byte = bytes[at] as number;
    if (byte < 0x80) {
      text += String.fromCharCode(byte);
      continue;
    }
    const next = at + 1 < end ? bytes[++at] as number : 0;
    if (byte < 0xc2 || byte > 0xdf || (next & 0xc0) !== 0x80) return undefined;
    text += String.fromCharCode((byte & 0x1f) << 6 | next & 0x3f);
  }
  return text;
}

function narrow(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

/** Metadata keys in quotes; descriptions ("the name of tensor 3") as they are. */
function quote(what: string): string {
  return what.includes(" ") ? what : `"${what}"`;
}
