import { assert, assertEquals } from "@std/assert";
import { checkFloors, floorOf, printEdge } from "../tools/checks/floors.ts";
import { type Edge, findCycles, importsOf, reachable } from "../tools/checks/imports.ts";
import { listFiles, readSources, repositoryPath, ROOT, source } from "../tools/checks/source.ts";

const sources = readSources(["."]).filter(({ path }) => !path.startsWith("coverage/"));
const edges = sources.flatMap(importsOf);

function edge(from: string, to: string, kind: Edge["kind"] = "static"): Edge {
  return { from, to, kind, line: 1 };
}

Deno.test("Every import keeps to the floor plan", () => {
  assertEquals(checkFloors(edges), []);
});

Deno.test("No imports run in a circle", () => {
  assertEquals(findCycles(edges).map((cycle) => cycle.join(" → ")), []);
});

Deno.test("Every relative import leads to a file that exists", () => {
  const files = new Set(listFiles(ROOT).map(repositoryPath));
  const broken = edges.filter(({ from, to, kind }) =>
    kind !== "url" && !/^(?:@|npm:|jsr:|node:|(?:ndarray|yaml)$)/.test(to) && !files.has(to) &&
    !/^(?:tests\/(?:clients|oracles)|bench\/peers)\//.test(from) // import maps of their own
  );
  assertEquals(broken.map(printEdge), []);
});

Deno.test("Every folder of source files has a row in the floor plan", () => {
  const homeless = sources.filter(({ path }) => floorOf(path) === undefined);
  assertEquals(homeless.map(({ path }) => path), []);
});

Deno.test("The floor check names the rule and the edge of every forbidden import", () => {
  const bad: [string, string, Edge["kind"], rule: string][] = [
    ["lib/device/device.ts", "lib/openai/handler.ts", "static", "may import only itself"],
    ["lib/device/device.ts", "lib/models/model.ts", "types", "may import only itself"],
    ["lib/base/errors.ts", "lib/llm.ts", "types", "imports nothing but itself"],
    ["lib/base/errors.ts", "@std/assert", "static", "@std/assert appears in tests/ only"],
    ["lib/device/kernels/matmul.ts", "lib/base/errors.ts", "static", "may import only itself"],
    ["lib/device/kernels/matmul.ts", "ndarray", "static", "the gate of ndarray"],
    ["lib/device/compiler/wire.ts", "lib/device/pe/pe.ts", "types", "may import only itself"],
    ["lib/device/simd/gemm.ts", "lib/device/kernels/matmul.ts", "static", "self_check.ts"],
    ["lib/device/simd/gemm.ts", "lib/device/memory.ts", "static", "may import only itself"],
    ["lib/device/pe/executor.ts", "lib/device/compiler/wire.ts", "static", "the type of a wire"],
    ["lib/device/pe/executor.ts", "lib/device/simd/gemm.ts", "static", "may import only itself"],
    ["lib/device/kernel_table.ts", "lib/device/memory.ts", "types", "may import only itself"],
    ["lib/engine/scheduler.ts", "lib/device/device.ts", "types", "only runner.ts"],
    ["lib/engine/engine.ts", "lib/text/tokenizer.ts", "types", "may import only itself"],
    ["lib/sampling/sampler.ts", "lib/engine/engine.ts", "static", "may import only itself"],
    ["lib/text/detokenizer.ts", "@huggingface/tokenizers", "static", "the gate of"],
    ["lib/text/tokenizer.ts", "@huggingface/jinja", "dynamic", "the gate of"],
    ["lib/openai/handler.ts", "lib/engine/engine.ts", "types", "may import only itself"],
    ["lib/openai/params.ts", "@std/http/status", "static", "the gate of @std/http"],
    ["lib/llm.ts", "lib/openai/handler.ts", "url", "the front desk"],
    ["lib/llm.ts", "npm:openai@7", "dynamic", "may import only itself"],
    ["mod.ts", "lib/engine/engine.ts", "static", "may import only itself"],
    ["serve/flags.ts", "lib/llm.ts", "static", "may import only itself"],
    ["serve.ts", "tools/models/fetch.ts", "dynamic", "never imports tests/"],
    ["lib/novel/a.ts", "lib/base/errors.ts", "static", "every folder has a row"],
    ["novel/a.ts", "mod.ts", "static", "every folder has a row"],
  ];
  for (const [from, to, kind, rule] of bad) {
    const faults = checkFloors([edge(from, to, kind)]);
    assert(faults.length > 0, `${from} → ${to} was let through`);
    assert(faults.some((fault) => fault.includes(rule)), `${rule}: ${faults.join("; ")}`);
    assert(faults.every((fault) => fault.includes(`${from}:1 → ${to}`)), faults.join("; "));
  }
});

Deno.test("The floor check lets through what the plan allows", () => {
  const good: [string, string, Edge["kind"]?][] = [
    ["lib/device/kernels/matmul.ts", "lib/device/kernels/ndarray.ts"],
    ["lib/device/kernels/ndarray.ts", "ndarray"],
    ["lib/device/simd/self_check.ts", "lib/device/kernels/matmul.ts"],
    ["lib/device/simd/gemm.ts", "lib/device/kernel_table.ts", "types"],
    ["lib/device/pe/executor.ts", "lib/device/compiler/wire.ts", "types"],
    ["lib/device/pe/pe.ts", "lib/device/pe/worker.ts", "url"],
    ["lib/device/device.ts", "lib/device/kernel_table.ts"],
    ["lib/engine/runner.ts", "lib/device/device.ts"],
    ["lib/text/chat_template.ts", "lib/text/worker.ts", "url"],
    ["lib/text/package_engine.ts", "@huggingface/tokenizers"],
    ["lib/openai/handler.ts", "@std/http/status"],
    ["serve/flags.ts", "@std/cli/parse-args"],
    ["tools/serve.ts", "serve.ts"],
    ["tests/llm_test.ts", "@std/assert"],
    ["lib/models/hub.ts", "node:path"],
  ];
  assertEquals(good.flatMap(([from, to, kind]) => checkFloors([edge(from, to, kind)])), []);
});

Deno.test("The circle check prints the way round, and overlooks what starts later", () => {
  const circle = [edge("a.ts", "b.ts"), edge("b.ts", "c.ts", "types"), edge("c.ts", "a.ts")];
  assertEquals(findCycles(circle), [["a.ts", "b.ts", "c.ts", "a.ts"]]);
  assertEquals(findCycles([edge("a.ts", "a.ts")]), [["a.ts", "a.ts"]]);
  assertEquals(findCycles([edge("a.ts", "b.ts"), edge("b.ts", "a.ts", "url")]), []);
  assertEquals(findCycles([edge("a.ts", "b.ts"), edge("a.ts", "c.ts"), edge("b.ts", "c.ts")]), []);
});

Deno.test("The import scanner reads every form of import and nothing that only looks like one", () => {
  const text = String.raw`/** import { no } from "./comment.ts"; */
import { a } from "./a.ts";
import type { B } from '../b.ts';
import { type C, type D } from "./c.ts";
import { type E, f } from "./e.ts";
import g, * as h from "npm:g@1";
import {
  long,
} from "./long.ts";
import "./effect.ts";
export { i } from "./i.ts";
export type { J } from "./j.ts";
export * from "./star.ts";
const k = await import("./k.ts");
const m = await import(variable);
new Worker(new URL("./worker.ts", import.meta.url), { type: "module" });
new URL("./data.json", import.meta.url);
const text = "import { no } from './string.ts'" + 'import "./no.ts"';
const template = ${"`"}import "./no.ts" ${"${"} x ? import("./yes.ts") : "}" ${"}"} from "./no.ts"${"`"};
const ratio = a / b; // import "./no.ts"
const pattern = /["'${"`"}/]/; import "./after.ts";
export const value = from("./call.ts");
type Q = import("./q.ts").Q;
`;
  const found = importsOf(source("x/y/z.ts", text)).map(({ to, kind }) => `${kind} ${to}`);
  assertEquals(found, [
    "static x/y/a.ts",
    "types x/b.ts",
    "types x/y/c.ts",
    "static x/y/e.ts",
    "static npm:g@1",
    "static x/y/long.ts",
    "static x/y/effect.ts",
    "static x/y/i.ts",
    "types x/y/j.ts",
    "static x/y/star.ts",
    "dynamic x/y/k.ts",
    "url x/y/worker.ts",
    "dynamic x/y/yes.ts",
    "static x/y/after.ts",
    "dynamic x/y/q.ts",
  ]);
});

Deno.test("Reachability follows imports of every kind", () => {
  const graph = [edge("a", "b"), edge("b", "c", "url"), edge("c", "d", "dynamic"), edge("e", "a")];
  assertEquals([...reachable(graph, ["a"])].sort(), ["a", "b", "c", "d"]);
});
