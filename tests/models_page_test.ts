/** docs/models.md: what it claims is shown by tests that are there. */

import { assert, assertEquals } from "@std/assert";
import { readPage } from "../tools/checks/compatibility.ts";

const root = new URL("../", import.meta.url);
const page = readPage(await Deno.readTextFile(new URL("docs/models.md", root)));

Deno.test("Every label of the page about models leads somewhere, and is used", () => {
  const labels = (list: readonly { readonly label: string }[]) =>
    [...new Set(list.map(({ label }) => label))].sort();
  assertEquals(labels(page.used), labels(page.links));
  assert(page.links.length > 30, "the labels are found");
});

Deno.test("Every test that the page about models names is there; … stands for what a loop fills in", async () => {
  for (const { label, path, name } of page.links) {
    const text = await Deno.readTextFile(new URL(path, root));
    const pieces = (name ?? "").split("…").map((piece) => piece.trim());
    const pattern = pieces.map((piece) => RegExp.escape(piece)).join(String.raw`\s*\$\{[^}]+\}\s*`);
    assert(
      name !== undefined && new RegExp(pattern).test(text),
      `[${label}]: no "${name}" in ${path}`,
    );
  }
});
