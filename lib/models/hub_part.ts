/** A blob on its way: its bytes on disk so far, and their hash. */

import { createHash, type Hash } from "node:crypto";
import type { HubFile } from "./hub_listing.ts";

const READ_SIZE_BYTES = 1 << 20;

/** A file that grows at its end. What an earlier try has left is kept. */
export class PartFile implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #wanted: HubFile;
  #hash: Hash;
  #sizeBytes = 0;
  #keptBytes = 0;

  private constructor(file: Deno.FsFile, wanted: HubFile) {
    this.#file = file;
    this.#wanted = wanted;
    this.#hash = startHash(wanted);
  }

  /** Opens the part at `path`, which is made if it is missing, and hashes what it holds. */
  static async open(path: string, wanted: HubFile, signal: AbortSignal): Promise<PartFile> {
    const file = await Deno.open(path, { read: true, write: true, create: true });
    const part = new PartFile(file, wanted);
    try {
      if ((await file.stat()).size > wanted.sizeBytes) await part.restart();
      else await part.#takeUp(signal);
      return part;
    } catch (error) {
      file.close();
      throw error;
    }
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  /** Some of it was there before: if the hash is wrong, that may be why. */
  get isResumed(): boolean {
    return this.#keptBytes > 0;
  }

  /** Drops everything. */
  async restart(): Promise<void> {
    await this.#file.truncate(0);
    await this.#file.seek(0, Deno.SeekMode.Start);
    this.#hash = startHash(this.#wanted);
    this.#sizeBytes = 0;
    this.#keptBytes = 0;
  }

  async append(bytes: Uint8Array): Promise<void> {
    for (let at = 0; at < bytes.byteLength;) at += await this.#file.write(bytes.subarray(at));
    this.#hash.update(bytes);
    this.#sizeBytes += bytes.byteLength;
  }

  /** The hash of all of it, spelled as the hub does. Only at the end; bytes reach the disk here. */
  async finish(): Promise<string> {
    await this.#file.syncData();
    return this.#hash.digest("hex");
  }

  [Symbol.dispose](): void {
    this.#file.close();
  }

  async #takeUp(signal: AbortSignal): Promise<void> {
    const buffer = new Uint8Array(READ_SIZE_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const count = await this.#file.read(buffer);
      if (count === null) break;
      this.#hash.update(buffer.subarray(0, count));
      this.#sizeBytes += count;
    }
    this.#keptBytes = this.#sizeBytes;
  }
}

/** Large files are known by the SHA-256 of their content, small ones as git knows them. */
function startHash({ blob, sizeBytes }: HubFile): Hash {
  return blob.length === 64
    ? createHash("sha256")
    : createHash("sha1").update(`blob ${sizeBytes}\0`);
}
