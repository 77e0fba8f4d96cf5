/** Compares text with a file under `tests/golden/`; `deno task golden` rewrites the files. */

import { assertEquals } from "@std/assert";

/** Fails unless the golden file holds exactly `actual`. With `--update-golden` it is written instead. */
export async function assertGolden(path: string, actual: string): Promise<void> {
  const url = new URL(`../golden/${path}`, import.meta.url);
  if (Deno.args.includes("--update-golden")) {
    await Deno.writeTextFile(url, actual);
    return;
  }
  assertEquals(
    actual,
    await Deno.readTextFile(url),
    `tests/golden/${path} (deno task golden rewrites it)`,
  );
}
