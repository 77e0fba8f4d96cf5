/** Bytes at positions: an opened weights file behind a small face. */

import { CheckpointError } from "../../base/errors.ts";

/** Something of a known size that can be read anywhere. */
export interface ByteSource extends Disposable {
  /** For error messages. */
  readonly name: string;
  readonly sizeBytes: number;
  /** Fills `target` with the bytes from `position` on, which the caller knows to be there. */
  readAt(position: number, target: Uint8Array): void;
}

/** A regular file, opened once. */
export class FileSource implements ByteSource {
  readonly name: string;
  readonly sizeBytes: number;
  readonly #file: Deno.FsFile;

  constructor(path: string) {
    this.name = path;
    try {
      this.#file = Deno.openSync(path, { read: true });
    } catch (error) {
      const why = error instanceof Deno.errors.NotFound ? "there is no such file" : String(error);
      throw new CheckpointError(path, `Cannot open "${path}": ${why}`, { cause: error });
    }
    const { isFile, size } = this.#file.statSync();
    this.sizeBytes = size;
    if (!isFile) {
      this.#file.close();
      throw new CheckpointError(path, `Cannot read "${path}": it must be a regular file`);
    }
  }

  readAt(position: number, target: Uint8Array): void {
    this.#file.seekSync(position, Deno.SeekMode.Start);
    let filled = 0;
    while (filled < target.byteLength) {
      const count = this.#file.readSync(target.subarray(filled));
      // The size was taken when the file was opened, so this is a file that shrank since.
      if (count === null) {
        throw new CheckpointError(
          this.name,
          `Cannot read "${this.name}": it ends at byte ${position + filled}, ` +
            `but had ${this.sizeBytes} bytes when it was opened`,
        );
      }
      filled += count;
    }
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }
}
