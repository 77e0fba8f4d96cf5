import { assert, assertEquals } from "@std/assert";
import { join } from "node:path";
import { ROUTES } from "../lib/openai/routes.ts";
import {
  checkLinks,
  checkRows,
  checkTargets,
  namesWithoutRow,
  PAGE,
  type Page,
  readPage,
  testNames,
} from "../tools/checks/compatibility.ts";
import { listFiles, readSources, repositoryPath, ROOT, source } from "../tools/checks/source.ts";

const text = await Deno.readTextFile(new URL(`../${PAGE}`, import.meta.url));
const page = readPage(text);

const INPUTS = ["Inputs", "Conversations"];

/** The headings under which the fields of each route's body stand. */
const HEADINGS: Readonly<Record<string, readonly string[]>> = {
  "/v1/chat/completions": ["Sampling", "Chat"],
  "/v1/completions": ["Sampling", "Completions"],
  "/v1/embeddings": [...INPUTS, "Vectors"],
  "/pooling": [...INPUTS, "Vectors", "Pooling"],
  "/classify": INPUTS,
  "/score": ["Pairs", "Score"],
  "/v1/score": ["Pairs", "Score"],
  "/rerank": ["Pairs", "Rerank"],
  "/v1/rerank": ["Pairs", "Rerank"],
  "/v2/rerank": ["Pairs", "Rerank"],
  "/tokenize": ["Tokenize"],
  "/detokenize": ["Detokenize"],
  "/reset_prefix_cache": ["Reset of the prefix cache"],
};

/** The fields that a schema names. */
function fieldsOf(body: object): string[] {
  return Object.keys((body as { properties: object }).properties);
}

Deno.test("Every row of the page says what is ours in a word of the legend, with a test", () => {
  assert(page.rows.length > 200, "the tables are found");
  assertEquals(checkRows(page), []);
});

Deno.test("Every link of the page leads to a test that is there", () => {
  assertEquals(checkLinks(page, readSources(["tests"])), []);
});

Deno.test("Every link to a heading or to another page leads somewhere", () => {
  const paths = listFiles(join(ROOT, "docs")).map(repositoryPath);
  assertEquals(checkTargets(text, paths), []);
});

Deno.test("Every route has a row", () => {
  const routes = ROUTES.map(({ method, path }) => `${method} ${path.replace("*", "{id}")}`);
  assertEquals(namesWithoutRow(page, ["Routes"], routes), []);
});

Deno.test("Every field of every request body has a row, and what is taken is in the schema", () => {
  for (const { path, body } of ROUTES) {
    if (body === undefined) continue;
    const headings = HEADINGS[path];
    assert(headings !== undefined, `${path} has headings`);
    const fields = fieldsOf(body);
    assertEquals(namesWithoutRow(page, headings, fields), [], path);
    // Of generation there are fields that nobody sends any more.
    const words = headings.includes("Sampling") ? ["works"] : ["works", "ignored"];
    const taken = page.rows
      .filter(({ heading, word }) => headings.includes(heading) && words.includes(word ?? ""))
      .flatMap(({ names }) => names.map((name) => name.split(".")[0]!));
    assertEquals(taken.filter((name) => !fields.includes(name)), [], path);
  }
});

Deno.test("Every field that is refused by name has a row that says so", () => {
  const [refusing] = readSources(["lib/openai/unsupported.ts"]);
  const refused = [...refusing!.text.matchAll(/\{ name: "(\w+)"/g)].map(([, name]) => name!);
  const headings = ["Sampling", "Chat", "Completions"];
  assertEquals(namesWithoutRow(page, headings, refused), []);
  // A field may be refused by one route and work for another one.
  const rowsOf = (name: string) =>
    page.rows.filter((row) => headings.includes(row.heading) && row.names.includes(name));
  const claimed = refused.filter((name) => rowsOf(name).every(({ word }) => word === "works"));
  assertEquals(claimed, []);
});

/** All keys of a JSON value, at any depth. */
function keysOf(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  const inner = Object.values(value).flatMap(keysOf);
  return Array.isArray(value) ? inner : [...Object.keys(value), ...inner];
}

Deno.test("Every key of a whole answer has a row, and a row that says it is there is true", async () => {
  const rows = page.rows.filter(({ heading }) => heading === "Keys of a chat and a completion");
  const names = rows.flatMap((row) => row.names);
  const there = new Set<string>();
  for (const file of ["chat", "completion"]) {
    const golden = new URL(`golden/openai/${file}.json`, import.meta.url);
    const answer = JSON.parse(await Deno.readTextFile(golden));
    const [choice] = answer.choices;
    const keys = [answer, choice, choice.message ?? {}, answer.usage].flatMap(Object.keys);
    assertEquals(keys.filter((key) => !names.includes(key)), [], file);
    for (const key of keysOf(answer)) there.add(key);
  }
  for (const { names, word } of rows) {
    for (const name of names) assertEquals(there.has(name), word === "works", name);
  }
});

Deno.test("No name has two rows under one heading", () => {
  const names = page.rows
    .filter(({ kind }) => kind !== "Rule" && kind !== "Key")
    .flatMap((row) => row.names.map((name) => `${row.heading}: ${name}`));
  assertEquals(names.filter((name, at) => names.indexOf(name) !== at), []);
});

Deno.test("Parameters stand in the order of the alphabet", () => {
  const parameters = page.rows.filter(({ kind }) => kind === "Parameter");
  for (const [heading, rows] of Map.groupBy(parameters, (row) => row.heading)) {
    const names = rows.map((row) => row.names[0]!);
    assertEquals(names, names.toSorted(), heading);
    for (const { names } of rows) assertEquals(names, names.toSorted(), heading);
  }
});

const EXAMPLE = `# Page

| Word | Ours |
| ---- | ---- |
| \`x\`  | y    |

## Routes

| Route           | OpenAI | vLLM | Furiosa | Ours                   |
| --------------- | ------ | ---- | ------- | ---------------------- |
| \`GET /a\`, \`/b\` | yes    | yes  | –       | [works][a], up to 16   |
| \`GET /c\`        | yes    | yes  | –       | [perhaps][b] and [c][c] |
| GET /d          | yes    | yes  | –       | [works][a]             |
| \`GET /e\`        | yes    | yes  | –       | works                  |

[a]: ../tests/a_test.ts "An 'a' works: 1:1"
[b]: ../tests/a_test.ts "Another one"
[d]: ../tests/b_test.ts
[e]: ../tests/a_test.ts
[f]: metrics.md
`;

function example(text = EXAMPLE): Page {
  return readPage(text);
}

Deno.test("The page is read by headings, columns and links", () => {
  const [row] = example().rows;
  assertEquals(row, {
    kind: "Route",
    heading: "Routes",
    line: 11,
    names: ["GET /a", "/b"],
    word: "works",
    labels: ["a"],
  });
  assertEquals(example().rows.length, 4);
  assertEquals(example().links[0]!.name, "An 'a' works: 1:1");
  assertEquals(namesWithoutRow(example(), ["Routes"], ["GET /c", "/b", "GET /d"]), ["GET /d"]);
  assertEquals(namesWithoutRow(example(), ["Other"], ["GET /c"]), ["GET /c"]);
});

Deno.test("The row check wants a name, a test and a word of the legend", () => {
  assertEquals(checkRows(example()).map((fault) => fault.split(": ")[1]!.slice(0, 20)), [
    '"perhaps" is not a w',
    "the row names nothin",
    "the last cell links ",
  ]);
});

Deno.test("The link check finds what leads nowhere, and what nobody uses", () => {
  const tests = source("tests/a_test.ts", `Deno.test("An 'a' works: 1:1", () => {});`);
  assertEquals(checkLinks(example(), [tests]), [
    "docs/compatibility.md:12: nothing says where [c] leads",
    'docs/compatibility.md:17: tests/a_test.ts has no test "Another one"',
    "docs/compatibility.md:18: nobody uses [d]",
    "docs/compatibility.md:19: nobody uses [e]",
    "docs/compatibility.md:20: nobody uses [f]",
  ]);
  const used = example(`[x][d] [x][a]\n\n[d]: ../tests/b_test.ts\n[a]: ../tests/a_test.ts\n`);
  assertEquals(checkLinks(used, [tests]), [
    "docs/compatibility.md:3: there is no file tests/b_test.ts",
  ]);
});

Deno.test("The target check knows headings, pages and the web", () => {
  const good = "# A, b & c\n\n[a](#a-b--c) [b](metrics.md#x) [c](https://example.org/)";
  const bad = "# A\n\n[a](#b) [b](no.md)";
  assertEquals(checkTargets(good, ["docs/metrics.md"]), []);
  assertEquals(checkTargets(bad, ["docs/metrics.md"]), [
    "docs/compatibility.md: the link to #b leads nowhere",
    "docs/compatibility.md: the link to no.md leads nowhere",
  ]);
});

Deno.test("Names of tests are read from calls, not from comments and strings", () => {
  const text = `
    // Deno.test("no", () => {});
    const a = 'Deno.test("no")';
    Deno.test("one", () => {});
    tinyTest(
      "two's", async () => {},
    );
    Deno.test(\`no \${a}\`, () => {});
    a.isTest("no");
  `;
  assertEquals(testNames(source("tests/a_test.ts", text)), ["one", "two's"]);
});
