/** Weights files that are in memory. */

import { CheckpointError } from "../../lib/base/errors.ts";
import type { ByteSource } from "../../lib/models/formats/byte_source.ts";

/** Bytes that are in memory already. */
export class MemorySource implements ByteSource {
  readonly name: string;
  readonly #bytes: Uint8Array;

  constructor(name: string, bytes: Uint8Array) {
    this.name = name;
    this.#bytes = bytes;
  }

  get sizeBytes(): number {
    return this.#bytes.byteLength;
  }

  readAt(position: number, target: Uint8Array): void {
    if (position + target.byteLength > this.#bytes.byteLength) {
      throw new CheckpointError(this.name, `Cannot read "${this.name}": it ends too early`);
    }
    target.set(this.#bytes.subarray(position, position + target.byteLength));
  }

  [Symbol.dispose](): void {}
}
