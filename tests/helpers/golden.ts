/** Compares text with a file of the repository; `deno task golden` rewrites the files. */

import { assertEquals } from "@std/assert";

/** The same for a file under `tests/golden/`. */
export async function assertGolden(path: string, actual: string): Promise<void> {
  await assertFile(`tests/golden/${path}`, actual);
}

/** Fails unless the file holds exactly `actual`. With `--update-golden` it is written instead. */
export async function assertFile(path: string, actual: string): Promise<void> {
  const url = new URL(`../../${path}`, import.meta.url);
  if (Deno.args.includes("--update-golden")) {
    await Deno.writeTextFile(url, actual);
    return;
  }
  assertEquals(
    actual,
    await Deno.readTextFile(url),
    `${path} (deno task golden rewrites it)`,
  );
}
