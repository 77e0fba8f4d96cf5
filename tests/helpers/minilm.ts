/** all-MiniLM-L6-v2 in the cache of the workshop, and tests that need it. */

import { defaultCacheDir } from "../../tools/models/cache.ts";
import { minilmFolder } from "../../tools/models/minilm.ts";

/** Registers a test that runs on the model's folder, or says in its name why it does not. */
export function minilmTest(name: string, fn: (folder: string) => void | Promise<void>): void {
  const folder = minilmFolder(defaultCacheDir());
  if (isFolder(folder)) {
    Deno.test(name, () => fn(folder));
    return;
  }
  if (Deno.env.get("RNGD_REQUIRE_MODEL") === "1") {
    throw new Error(
      `Cannot find "${folder}": RNGD_REQUIRE_MODEL=1 asks for it to be fetched first`,
    );
  }
  Deno.test({ name: `${name} (skipped: MiniLM is not in the cache)`, ignore: true, fn() {} });
}

function isFolder(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
