/**
 * A hub model without its weights, for looking at: small files, and of each safetensors file the
 * header, with a hole behind it as long as the weights are. Nothing of it goes into the cache.
 */

import { DownloadError } from "../base/errors.ts";
import { HEADER_SIZE_MAX_BYTES, LENGTH_FIELD_BYTES } from "./formats/safetensors.ts";
import type { DownloadJob } from "./hub_download.ts";
import type { HubFile } from "./hub_listing.ts";
import { TransientError, withTries } from "./hub_tries.ts";

/** Headers that are fetched at the same time. */
const PARALLEL_MAX = 4;

/** Puts files of the commit that are in the cache already, and the headers of others, into `folder`. */
export async function fetchHeaders(
  job: DownloadJob,
  { small, large }: { readonly small: readonly HubFile[]; readonly large: readonly HubFile[] },
  folder: string,
): Promise<void> {
  const snapshot = job.cache.snapshot(job.listing.commit);
  for (const { name } of small) {
    const path = `${folder}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.copyFile(`${snapshot}/${name}`, path);
  }
  const failed = new AbortController();
  const signal = AbortSignal.any([job.signal, failed.signal]);
  const queue = large.values(); // shared: each takes the next
  const worker = async () => {
    for (const file of queue) await fetchHeader({ ...job, signal }, file, folder);
  };
  const workers = Array.from({ length: PARALLEL_MAX }, () =>
    worker().catch((error) => {
      failed.abort(error);
    }));
  await Promise.all(workers);
  signal.throwIfAborted();
}

async function fetchHeader(job: DownloadJob, file: HubFile, folder: string): Promise<void> {
  const { listing: { id, revision }, times, signal } = job;
  let head: Uint8Array<ArrayBuffer>;
  try {
    head = await withTries(() => readHeader(job, file), { times, signal });
  } catch (error) {
    if (!(error instanceof TransientError)) throw error;
    throw new DownloadError(
      id,
      `Cannot download the header of "${file.name}" of "${id}" at revision "${revision}": ` +
        `${error.message}; try again later`,
      { cause: error },
    );
  }
  await Deno.writeFile(`${folder}/${file.name}`, head);
  await Deno.truncate(`${folder}/${file.name}`, file.sizeBytes);
}

/** Reads as far as the header goes, and hangs up. What is wrong with it is told when it is parsed. */
async function readHeader(
  { client, listing, signal }: DownloadJob,
  file: HubFile,
): Promise<Uint8Array<ArrayBuffer>> {
  const { chunks } = await client.open(listing, file, 0, signal);
  const pieces: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  let end: number | undefined;
  for await (const chunk of chunks) {
    pieces.push(chunk);
    size += chunk.byteLength;
    if (size >= LENGTH_FIELD_BYTES) end ??= headerEnd(await joined(pieces), file);
    if (size >= (end ?? Infinity)) break;
  }
  end ??= Math.min(LENGTH_FIELD_BYTES, file.sizeBytes);
  if (size >= end) return (await joined(pieces)).slice(0, end);
  throw new TransientError(`the connection ended after ${size} of ${end} bytes`);
}

async function joined(pieces: Uint8Array<ArrayBuffer>[]): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await new Blob(pieces).arrayBuffer());
}

/** Where the header ends that begins with these bytes. */
function headerEnd(bytes: Uint8Array, { sizeBytes }: HubFile): number {
  const stated = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  return Math.min(LENGTH_FIELD_BYTES + Math.min(stated, HEADER_SIZE_MAX_BYTES), sizeBytes);
}
