/** SmolLM2-135M-Instruct in the cache of the workshop, and tests that need it. */

import { defaultCacheDir } from "../../tools/models/cache.ts";
import { smolLM2Path } from "../../tools/models/fetch.ts";

/**
 * The model's GGUF file, or undefined if it was not fetched. With `RNGD_REQUIRE_MODEL=1` a missing
 * file is an error.
 */
export function smollm2Path(): string | undefined {
  const path = smolLM2Path(defaultCacheDir());
  if (isFile(path)) return path;
  if (Deno.env.get("RNGD_REQUIRE_MODEL") === "1") {
    throw new Error(`Cannot find "${path}": RNGD_REQUIRE_MODEL=1 asks for it to be fetched first`);
  }
  return undefined;
}

/** Registers a test that runs on the model's file, or says in its name why it does not. */
export function modelTest(name: string, fn: (path: string) => void | Promise<void>): void {
  const path = smollm2Path();
  if (path === undefined) {
    Deno.test({ name: `${name} (skipped: SmolLM2 is not in the cache)`, ignore: true, fn() {} });
  } else {
    Deno.test(name, () => fn(path));
  }
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
