import { assert, assertEquals } from "@std/assert";
import {
  checkBans,
  checkDeadFiles,
  checkHeaders,
  checkLeftovers,
  checkNames,
  checkSnakeCase,
  checkTables,
  type Table,
} from "../tools/checks/tidy.ts";
import { listFiles, readSources, repositoryPath, ROOT, source } from "../tools/checks/source.ts";
import config from "../deno.json" with { type: "json" };

const sources = readSources(["."]);

/** The tables that name every file of a folder. */
const TABLES: readonly Table[] = [
  {
    folder: "lib/device/kernels/",
    table: "lib/device/pe/reference.ts",
    except: ["lib/device/kernels/ndarray.ts"],
  },
  { folder: "lib/models/architectures/", table: "lib/models/model.ts", except: [] },
  {
    folder: "lib/reasoning/",
    table: "lib/reasoning/parsers.ts",
    except: ["lib/reasoning/parser.ts"],
  },
  { folder: "lib/tools/", table: "lib/tools/parsers.ts", except: ["lib/tools/parser.ts"] },
];

/** Text files of every kind that belong to the repository. */
function readTexts(): { path: string; text: string }[] {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  return listFiles(ROOT)
    .filter((path) => !/^(?:\.git|coverage)\//.test(repositoryPath(path)))
    .filter((path) => /\.(?:ts|md|json|jsonc|lock|yml|sh|txt|jinja|wire)$|\/\.ci\/run$/.test(path))
    .map((path) => ({
      path: repositoryPath(path),
      text: decoder.decode(Deno.readFileSync(path)),
    }));
}

Deno.test("Every file begins with a sentence that says what it is", () => {
  assertEquals(checkHeaders(sources), []);
});

Deno.test("The library prints nothing, reads no environment, ends no process and keeps no module state", () => {
  assertEquals(checkBans(sources), []);
});

Deno.test("Every file name of the product says what the file holds", () => {
  assertEquals(checkNames(sources.map(({ path }) => path)), []);
});

Deno.test("snake_case stays on the wire and in checkpoint files", () => {
  assertEquals(checkSnakeCase(sources), []);
});

Deno.test("No file is dead: an export, a worker or a test leads to it", () => {
  const exported = Object.values(config.exports).map((path) => path.replace("./", ""));
  assert(exported.includes("mod.ts"));
  assertEquals(checkDeadFiles(sources, exported), []);
});

Deno.test("Every kernel, architecture and parser has a row in its table", () => {
  assertEquals(checkTables(sources, TABLES), []);
});

Deno.test("No text file names a folder of one machine or leaves a note to its author", () => {
  const texts = readTexts();
  assert(texts.some(({ path }) => path === "README.md") && texts.length > 50);
  assertEquals(checkLeftovers(texts), []);
});

Deno.test("The header check wants a comment with a sentence before the code", () => {
  const good = [
    "/** What this holds. */\n\nexport const a = 1;\n",
    "/** What this holds. */\nimport { a } from './a.ts';\n",
    "/**\n * A pipeline:\n *\n * 1. one\n */\n\nconst a = 1;\n",
  ];
  const bad = [
    "export const a = 1;\n",
    "import { a } from './a.ts';\n/** What this holds. */\n",
    "/** Thing */\n\nexport const a = 1;\n",
    "/** What the next one does. */\nexport const a = 1;\n",
    "// What this holds.\n\nexport const a = 1;\n",
    "",
  ];
  for (const text of good) assertEquals(checkHeaders([source("lib/a.ts", text)]), [], text);
  for (const text of bad) assertEquals(checkHeaders([source("lib/a.ts", text)]).length, 1, text);
  assertEquals(checkHeaders([source("tests/a_test.ts", "import './a.ts';\n")]), []);
  assertEquals(checkHeaders([source("tests/helpers/a.ts", "import './a.ts';\n")]).length, 1);
});

Deno.test("The ban check finds each banned thing in code, and not in comments or strings", () => {
  const bad: [text: string, says: string][] = [
    ["console.log(1);", "prints"],
    ["const a = Deno.env.get('A');", "environment"],
    ["const a = process.env;", "environment"],
    ["Deno.exit(1);", "ends the process"],
    ["const a = Deno.args;", "arguments"],
    ["function f(a: any) {}", "`any`"],
    ["const a = b as any;", "`any`"],
    ["const a: Map<string, any> = b;", "`any`"],
    ["export * from './b.ts';", "exports everything"],
    ["let count = 0;", "mutable state"],
    ["export let count = 0;", "mutable state"],
    ["const cache = new Map<string, number>();", "mutable state"],
    ["const list: number[] = [];", "mutable state"],
  ];
  for (const [text, says] of bad) {
    const faults = checkBans([source("lib/a.ts", `\n${text}\n`)]);
    assert(faults.length === 1 && faults[0]!.includes(says), `${text}: ${faults.join()}`);
    assert(faults[0]!.startsWith("lib/a.ts:2: "), faults[0]);
    assertEquals(checkBans([source("serve/a.ts", text)]), []);
  }
  const good = [
    "// console.log(any)",
    "const a = 'console.log: any';",
    "const a = `Deno.env ${b}`;",
    "function f() {\n  let a = 0;\n  return a;\n}",
    "const NAMES = new Set(['a']);",
    "const NOTHING: readonly string[] = [];",
    "const a = Promise.any(b);",
    "const a = many.any(b);",
  ];
  for (const text of good) assertEquals(checkBans([source("lib/a.ts", text)]), [], text);
  assertEquals(checkBans([source("lib/models/hub.ts", "Deno.env.get('HF_HOME')")]), []);
});

Deno.test("The name check refuses names that say nothing", () => {
  const bad = [
    "lib/utils.ts",
    "lib/text/index.ts",
    "lib/engine/types.ts",
    "lib/aB.ts",
    "serve/x-y.ts",
  ];
  const good = ["lib/openai/types.ts", "lib/engine/kv_cache.ts", "tests/helpers/common.ts"];
  assertEquals(checkNames(bad).length, bad.length);
  assertEquals(checkNames(good), []);
});

Deno.test("The snake_case check finds keys and accesses, and knows whose data is whose", () => {
  const bad = [
    "const a = { max_tokens: 1 };",
    "interface A {\n  readonly max_tokens?: number;\n}",
    "f(params.max_tokens);",
    "f(params?.max_tokens);",
    "class A {\n  do_it() {}\n}",
  ];
  for (const text of bad) {
    assertEquals(checkSnakeCase([source("lib/engine/a.ts", text)]).length, 1, text);
    assertEquals(checkSnakeCase([source("lib/openai/a.ts", text)]), [], text);
  }
  const good = [
    "const a = { maxTokens: 1, q4_0: 2, tool_calls: [] };",
    "f('max_tokens', \"a.max_tokens\"); // a.max_tokens",
    "import { a } from './max_tokens.ts';",
  ];
  for (const text of good) {
    assertEquals(checkSnakeCase([source("lib/engine/a.ts", text)]), [], text);
  }
});

Deno.test("The dead file check follows imports, workers and tests", () => {
  const files = [
    source("mod.ts", "export { a } from './lib/a.ts';"),
    source("lib/a.ts", "new Worker(new URL('./worker.ts', import.meta.url));"),
    source("lib/worker.ts", "import './b.ts';"),
    source("lib/b.ts", ""),
    source("lib/dead.ts", "import './b.ts';"),
    source("tests/a_test.ts", "import '../lib/dead.ts'; import './helpers/used.ts';"),
    source("tests/helpers/used.ts", ""),
    source("tests/helpers/unused.ts", ""),
  ];
  assertEquals(checkDeadFiles(files, ["mod.ts"]).map((fault) => fault.split(":")[0]), [
    "lib/dead.ts",
    "tests/helpers/unused.ts",
  ]);
});

Deno.test("The table check finds the file without a row", () => {
  const table = { folder: "lib/x/", table: "lib/x/table.ts", except: ["lib/x/shared.ts"] };
  const files = [
    source("lib/x/table.ts", "import { a } from './a.ts';"),
    source("lib/x/a.ts", ""),
    source("lib/x/b.ts", ""),
    source("lib/x/shared.ts", ""),
  ];
  assertEquals(checkTables(files, [table]), ["lib/x/b.ts: the file has no row in lib/x/table.ts"]);
});

Deno.test("The leftover check finds machine paths and notes", () => {
  const note = "TO" + "DO";
  const bad = [
    "see /" + "root/x",
    "('/" + "home/alice/model')",
    `// ${note}: later`,
    "C:\\" + "Users\\me",
  ];
  for (const text of bad) assertEquals(checkLeftovers([{ path: "a.md", text }]).length, 1, text);
  const good = [
    "https://example.org/home/page",
    "~/.cache",
    "a todo list",
    "lib/root/x",
    "/" + "home/me/model",
    "./" + "work/x",
  ];
  for (const text of good) assertEquals(checkLeftovers([{ path: "a.md", text }]), [], text);
});
