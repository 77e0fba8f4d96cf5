/**
 * Files of one commit → the cache. For each:
 *
 * 1. wait for the lock of its blob              hub_lock.ts
 * 2. leave it if it is there by now
 * 3. resume or begin; a cut connection resumes  hub_part.ts, hub_tries.ts
 * 4. compare size and hash, give it its name by a rename
 * 5. link it into the snapshot                  hub_cache.ts
 *
 * Whatever ends this leaves finished blobs and `.incomplete` ones, which the next try takes up.
 */

import { DownloadError } from "../base/errors.ts";
import { type HubCache, removeIfThere } from "./hub_cache.ts";
import type { HubClient } from "./hub_client.ts";
import type { HubFile, HubListing } from "./hub_listing.ts";
import { takeLock } from "./hub_lock.ts";
import { PartFile } from "./hub_part.ts";
import { type HubTimes, TransientError, withTries } from "./hub_tries.ts";

/** Everything that downloads of one commit share. */
export interface DownloadJob {
  readonly client: HubClient;
  readonly cache: HubCache;
  readonly listing: HubListing;
  readonly times: HubTimes;
  readonly signal: AbortSignal;
  /** Bytes of a blob so far. */
  readonly onBytes: (blob: string, done: number) => void;
}

/** Files that are downloaded at the same time: one connection seldom fills a line. */
const PARALLEL_MAX = 4;

/** Downloads files that are missing. The first failure ends the others. */
export async function downloadAll(job: DownloadJob, files: Iterable<HubFile>): Promise<void> {
  // Files of equal content share a blob.
  const groups = [...Map.groupBy(files, ({ blob }) => blob).values()];
  const failed = new AbortController();
  const signal = AbortSignal.any([job.signal, failed.signal]);
  const worker = async () => {
    for (let group = groups.shift(); group !== undefined; group = groups.shift()) {
      await downloadOne({ ...job, signal }, group);
    }
  };
  const workers = Array.from(
    { length: Math.min(PARALLEL_MAX, groups.length) },
    () =>
      worker().catch((error) => {
        failed.abort(error);
        throw error;
      }),
  );
  await Promise.allSettled(workers);
  signal.throwIfAborted();
}

/** Gets one blob, under each of its names. */
async function downloadOne(job: DownloadJob, files: readonly HubFile[]): Promise<void> {
  const { cache, listing: { commit }, times, signal } = job;
  const [file] = files;
  if (file === undefined) return;
  const report = (done: number) => job.onBytes(file.blob, Math.min(done, file.sizeBytes));
  const isMissing = (name: HubFile) => !cache.hasFile(commit, name);
  if (files.some(isMissing)) {
    using _lock = await takeLock(cache.lockFile(file), {
      pollMs: times.lockPollMs,
      signal,
      onWait: () => report(sizeSoFar(cache.incomplete(file))),
    });
    const missing = files.filter(isMissing);
    const isNew = missing.length > 0 && !cache.hasBlob(file);
    if (isNew) await fetchBlob(job, file, report);
    for (const [index, name] of missing.entries()) {
      await cache.place(commit, name, isNew && index === missing.length - 1);
    }
  }
  report(file.sizeBytes);
}

async function fetchBlob(
  job: DownloadJob,
  file: HubFile,
  report: (done: number) => void,
): Promise<void> {
  const { cache, listing: { id, revision }, times, signal } = job;
  const path = cache.incomplete(file);
  const refuse = (why: string, cause?: unknown) =>
    new DownloadError(
      id,
      `Cannot download "${file.name}" of "${id}" at revision "${revision}": ${why}`,
      { cause },
    );
  try {
    using part = await PartFile.open(path, file, signal);
    const attempt = async () => {
      await receive(job, file, part, report);
      const hash = await part.finish();
      if (hash === file.blob) return;
      const { isResumed } = part;
      await part.restart();
      const what = `its content has hash ${hash} instead of ${file.blob}`;
      throw isResumed ? new TransientError(what) : new WrongContentError(what);
    };
    await withTries(attempt, { times, signal, progress: () => part.sizeBytes });
  } catch (error) {
    if (error instanceof WrongContentError) {
      await removeIfThere(path);
      throw refuse(error.message);
    }
    if (error instanceof TransientError) throw refuse(`${error.message}; try again later`, error);
    throw error;
  }
  await Deno.rename(path, cache.blob(file));
}

/** Appends what is missing. */
async function receive(
  { client, listing, signal }: DownloadJob,
  file: HubFile,
  part: PartFile,
  report: (done: number) => void,
): Promise<void> {
  report(part.sizeBytes);
  if (part.sizeBytes === file.sizeBytes) return;
  const { start, chunks } = await client.open(listing, file, part.sizeBytes, signal);
  if (start !== part.sizeBytes) await part.restart();
  for await (const chunk of chunks) {
    if (part.sizeBytes + chunk.byteLength > file.sizeBytes) {
      throw new WrongContentError(`its content is longer than ${file.sizeBytes} bytes`);
    }
    await part.append(chunk);
    report(part.sizeBytes);
  }
  if (part.sizeBytes < file.sizeBytes) {
    throw new TransientError(
      `the connection ended after ${part.sizeBytes} of ${file.sizeBytes} bytes`,
    );
  }
}

/** What came is not what was asked for, and would not be at another try. */
class WrongContentError extends Error {}

function sizeSoFar(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
