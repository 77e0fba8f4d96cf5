import { assert, assertEquals } from "@std/assert";

const text = await Deno.readTextFile(new URL("../ARCHITECTURE.md", import.meta.url));

/** The files that a Markdown text names in backticks, by path or as a folder with `/` at its end. */
function namedPaths(markdown: string): string[] {
  return [...markdown.matchAll(/`([\w./]+(?:\.ts|\.md|\/))`/g)].map(([, path]) => path!);
}

function isThere(path: string): boolean {
  // In the glossary a folder of the device goes by its last name.
  return ["", "lib/device/"].some((folder) => {
    try {
      Deno.statSync(new URL(`../${folder}${path}`, import.meta.url));
      return true;
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return false;
      throw error;
    }
  });
}

/** The numbered rows of the table of stages: number → the files it names. */
function readStages(markdown: string): Map<number, string[]> {
  const section = /## A request's life\n([\s\S]*?)\n## /.exec(markdown)?.[1] ?? "";
  return new Map(
    [...section.matchAll(/^\|\s*(\d+)\s*\|([^\n]*)$/gm)].map((
      [, number, rest],
    ) => [Number(number), namedPaths(rest!)]),
  );
}

Deno.test("The map names the seventeen stages of a request, each with its files", () => {
  const stages = readStages(text);
  assertEquals([...stages.keys()], Array.from({ length: 17 }, (_, index) => index + 1));
  for (const [number, files] of stages) assert(files.length > 0, `stage ${number} names no file`);
  assertEquals(stages.get(16), ["lib/assistant.ts"]);
});

Deno.test("Every file and folder that the map names exists", () => {
  const named = namedPaths(text);
  assert(named.length > 30, "the map names its files");
  assertEquals(named.filter((path) => !isThere(path)), []);
});

Deno.test("Every floor of the house is on the map", async () => {
  const floors: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(new URL("../lib", import.meta.url))) {
    if (isDirectory && await hasFiles(name)) floors.push(`lib/${name}/`);
  }
  assertEquals(floors.sort().filter((floor) => !text.includes(floor)), []);
});

/** git knows no empty folders, so neither does the map. */
async function hasFiles(floor: string): Promise<boolean> {
  for await (const _ of Deno.readDir(new URL(`../lib/${floor}`, import.meta.url))) return true;
  return false;
}

Deno.test("The map check reads rows, and misses what is not there", () => {
  const markdown =
    "## A request's life\n\n| # | a |\n| 1 | x | `mod.ts`, `lib/no.ts` |\n\n## Next\n";
  assertEquals([...readStages(markdown)], [[1, ["mod.ts", "lib/no.ts"]]]);
  assert(!isThere("lib/no.ts"));
  assert(isThere("deno.json") && isThere("lib/base/") && isThere("compiler/"));
});
