/** How far all files of a download are together. */

import type { HubFile } from "./hub_listing.ts";

/** Adds up the bytes of all files. What is told never goes back, also where a file starts again. */
export class DownloadProgress {
  readonly #tell: ((done: number, total: number) => void) | undefined;
  readonly #done = new Map<string, number>();
  #total: number | undefined;
  #told = -1;

  constructor(tell: ((done: number, total: number) => void) | undefined) {
    this.#tell = tell;
  }

  /** Says how much there is; nothing is told before. */
  expect(files: readonly HubFile[]): void {
    const sizes = new Map(files.map(({ blob, sizeBytes }) => [blob, sizeBytes]));
    this.#total = sizes.values().reduce((sum, size) => sum + size, 0);
    this.#update();
  }

  set(blob: string, done: number): void {
    this.#done.set(blob, done);
    this.#update();
  }

  #update(): void {
    if (this.#total === undefined) return;
    const done = this.#done.values().reduce((sum, size) => sum + size, 0);
    if (done <= this.#told) return;
    this.#told = done;
    this.#tell?.(done, this.#total);
  }
}
