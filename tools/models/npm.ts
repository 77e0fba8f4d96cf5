/**
 * Has npm download a package. npm knows how this machine reaches its registry; nothing here names a
 * host.
 */

import { join } from "node:path";
import { FetchError } from "./cache.ts";
import { runProgram } from "./program.ts";

/**
 * Downloads a package by way of a folder, which is left as it was.
 *
 * @returns The contents of its files by their paths, which begin with "package/".
 * @throws {FetchError} if there is no npm, or it fails.
 */
export async function downloadPackage(
  specifier: string,
  folder: string,
  signal: AbortSignal | undefined,
): Promise<Map<string, Uint8Array>> {
  const { success, stdout, stderr } = await runProgram(
    "npm",
    ["pack", specifier, "--silent", "--pack-destination", folder],
    { signal },
  ).catch((error) => {
    signal?.throwIfAborted();
    throw new FetchError("download", `Cannot run npm: ${error.message}`, { cause: error });
  });
  if (!success) {
    const why = stderr.trim().split("\n")[0] ?? "";
    throw new FetchError("download", `Cannot download "${specifier}" with npm: ${why}`);
  }
  const path = join(folder, stdout.trim());
  const packed = await Deno.open(path);
  const tar = await new Response(packed.readable.pipeThrough(new DecompressionStream("gzip")))
    .bytes();
  await Deno.remove(path);
  return readTar(tar);
}

const TAR_BLOCK = 512;

/** The plain files of an archive: blocks of 512 bytes, a header before each file. */
function readTar(bytes: Uint8Array): Map<string, Uint8Array> {
  const files = new Map<string, Uint8Array>();
  const text = (at: number, length: number) =>
    new TextDecoder().decode(bytes.subarray(at, at + length)).replace(/\0.*$/s, "");
  for (let at = 0; at + TAR_BLOCK <= bytes.length && bytes[at] !== 0;) {
    const sizeBytes = parseInt(text(at + 124, 12), 8);
    const content = at + TAR_BLOCK;
    files.set(text(at, 100), bytes.subarray(content, content + sizeBytes));
    at = content + Math.ceil(sizeBytes / TAR_BLOCK) * TAR_BLOCK;
  }
  return files;
}
