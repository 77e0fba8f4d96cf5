/** Vocabularies of real models in the cache of the workshop, and tests that need them. */

import { defaultCacheDir } from "../../tools/models/cache.ts";
import { vocabularyFolder } from "../../tools/models/vocabularies.ts";

/** The two files of a tokenizer, parsed. */
export interface TokenizerFiles {
  readonly json: Record<string, unknown>;
  readonly config: Record<string, unknown>;
}

/** Reads the two files of a folder. */
export function readTokenizerFiles(folder: string): TokenizerFiles {
  const read = (name: string) => JSON.parse(Deno.readTextFileSync(`${folder}/${name}`));
  return { json: read("tokenizer.json"), config: read("tokenizer_config.json") };
}

/**
 * Registers a test that runs on a vocabulary, or says in its name why it does not. npm may be out of
 * reach where everything else is there, so a missing vocabulary is never an error.
 */
export function vocabularyTest(
  vocabulary: string,
  name: string,
  fn: (files: TokenizerFiles) => void | Promise<void>,
): void {
  const folder = vocabularyFolder(defaultCacheDir(), vocabulary);
  if (isFolder(folder)) {
    Deno.test(name, () => fn(readTokenizerFiles(folder)));
  } else {
    const title = `${name} (skipped: the vocabulary is not in the cache)`;
    Deno.test({ name: title, ignore: true, fn() {} });
  }
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
