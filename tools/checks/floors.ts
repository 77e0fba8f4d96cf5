/** The floor plan: which folder may import what, and the rules that a folder list cannot say. */

import type { Edge } from "./imports.ts";

/**
 * Who may import what. The longest prefix of a file's path decides; a floor may always use itself.
 * An entry that ends in `/` allows everything below it, another one exactly itself; `{a,b}` stands
 * for either and `*` for any name without a slash. `anything` ends the search.
 */
const FLOORS: Readonly<Record<string, readonly string[]>> = {
  "lib/base/": [],
  "lib/device/kernels/": [
    "ndarray",
    "lib/device/{dtype,block_formats,activations,gelu}.ts",
    "lib/base/row_summary.ts", // the one definition of log-sum-exp, which sampling shares
  ],
  // The door between the kernel backends and those who call them: plain descriptions.
  "lib/device/kernel_table.ts": [
    "lib/device/{block_formats,activations,routing}.ts",
    "lib/base/row_summary.ts",
  ],
  "lib/device/compiler/": [
    "lib/base/",
    "lib/device/{spec,bucket,dtype,kernel_table,activations,routing}.ts",
  ],
  "lib/device/simd/": [
    "lib/base/",
    "lib/device/{dtype,block_formats,grouped_blocks,kernel_table,activations,gelu,routing}.ts",
    "lib/device/kernels/", // self_check.ts only, see RULES
  ],
  "lib/device/pe/": [
    "lib/base/",
    "lib/device/kernels/",
    "lib/device/simd/{simd,self_check}.ts",
    "lib/device/compiler/wire.ts",
    "lib/device/{memory,trace,block_formats,grouped_blocks,kernel_table,activations,dtype,requantize,routing}.ts",
  ],
  "lib/device/": [
    "lib/base/",
    "lib/device/kernels/ndarray.ts",
    "lib/device/compiler/",
    "lib/device/pe/pe.ts",
  ],
  "lib/models/": ["lib/base/", "lib/device/"],
  "lib/sampling/": ["lib/base/"],
  "lib/pooling/": ["lib/base/"],
  "lib/engine/": [
    "lib/base/",
    "lib/device/",
    "lib/models/model.ts",
    "lib/sampling/",
    "lib/pooling/",
  ],
  "lib/text/": ["lib/base/", "@huggingface/*"],
  "lib/text/worker.ts": ["lib/base/", "lib/text/", "@huggingface/*", "lib/sampling/structured/"],
  "lib/reasoning/": ["lib/base/", "lib/text/{tag_splitter,harmony}.ts"],
  "lib/tools/": ["lib/base/", "lib/text/{tag_splitter,harmony}.ts"],
  "lib/": [
    "lib/base/",
    "lib/device/",
    "lib/models/",
    "lib/sampling/",
    "lib/pooling/",
    "lib/text/",
    "lib/engine/",
    "lib/reasoning/",
    "lib/tools/",
  ],
  "lib/openai/": [
    "lib/base/",
    "lib/{llm,outputs,assistant}.ts",
    "lib/{sampling,pooling}/params.ts",
    "@std/http/*",
  ],
  "mod.ts": ["lib/*.ts", "lib/{sampling,pooling}/params.ts", "lib/base/errors.ts"],
  "serve/": ["mod.ts", "@std/cli/*", "yaml"],
  "serve.ts": ["mod.ts", "lib/openai/handler.ts", "serve/"],
  "examples/": ["mod.ts", "lib/openai/handler.ts", "npm:*"],
  // The workshop may use everything.
  "tests/": ["anything"],
  "bench/": ["anything"],
  "tools/": ["anything"],
};

/** Folders whose rows above say `anything`: nobody outside the workshop may import them. */
const WORKSHOP = /^(?:tests|bench|tools)\//;

/** The files through which each outside package enters. Node built-ins have no gate. */
const GATES: Readonly<Record<string, readonly string[]>> = {
  "ndarray": ["lib/device/kernels/ndarray.ts"],
  "@huggingface/tokenizers": ["lib/text/package_engine.ts"],
  "@huggingface/jinja": ["lib/text/chat_template.ts"],
  "@std/http": ["lib/openai/handler.ts", "lib/openai/sse.ts"],
  "@std/cli": ["serve/flags.ts"],
  "yaml": ["serve/config_file.ts"],
};

/** A named rule that forbids some edges. */
interface Rule {
  readonly name: string;
  forbids(edge: Edge): boolean;
}

/** What the table cannot say because it speaks of single files or kinds of import. */
const RULES: readonly Rule[] = [
  {
    name: "only lib/device/simd/self_check.ts looks at the plain kernels",
    forbids: ({ from, to }) =>
      from.startsWith("lib/device/simd/") && from !== "lib/device/simd/self_check.ts" &&
      to.startsWith("lib/device/kernels/"),
  },
  {
    name: "lib/device/pe/ knows of the compiler only the type of a wire",
    forbids: ({ from, to, kind }) =>
      from.startsWith("lib/device/pe/") && to.startsWith("lib/device/compiler/") &&
      kind !== "types",
  },
  {
    name: "in the engine only runner.ts touches the device; others may know its plain descriptions",
    forbids: ({ from, to }) =>
      from.startsWith("lib/engine/") && from !== "lib/engine/runner.ts" &&
      to.startsWith("lib/device/") &&
      !/^lib\/device\/(?:bucket|kernel_table|kv_window)\.ts$/.test(to),
  },
  {
    name: "the front desk starts from lib/openai/, never the other way round",
    forbids: ({ from, to }) =>
      !from.startsWith("lib/openai/") && /^lib\//.test(from) &&
      to.startsWith("lib/openai/"),
  },
  {
    name: "product code never imports tests/, bench/ or tools/",
    forbids: ({ from, to }) => !WORKSHOP.test(from) && WORKSHOP.test(to),
  },
  {
    name: "@std/assert appears in tests/ only",
    forbids: ({ from, to }) => packageOf(to) === "@std/assert" && !from.startsWith("tests/"),
  },
];

/** The faults of a set of edges, each as a sentence that names the rule and prints the edge. */
export function checkFloors(edges: readonly Edge[]): string[] {
  return edges.flatMap((edge) => {
    const faults = RULES.filter((rule) => rule.forbids(edge)).map((rule) => rule.name);
    const gates = GATES[packageOf(edge.to)];
    const inWorkshop = WORKSHOP.test(edge.from);
    if (gates !== undefined && !inWorkshop && !gates.includes(edge.from)) {
      faults.push(`the gate of ${packageOf(edge.to)} is ${gates.join(" and ")}`);
    } else if (gates === undefined || inWorkshop) {
      const fault = checkTable(edge);
      if (fault !== undefined) faults.push(fault);
    }
    return faults.map((fault) => `${fault}: ${printEdge(edge)}`);
  });
}

/** `lib/a.ts:3 → lib/b.ts` */
export function printEdge({ from, to, line, kind }: Edge): string {
  return `${from}:${line} → ${to}${kind === "static" ? "" : ` (${kind})`}`;
}

function checkTable({ from, to }: Edge): string | undefined {
  const floor = floorOf(from);
  if (floor === undefined) return "every folder has a row in the floor plan";
  const allowed = FLOORS[floor] ?? [];
  if (allowed.includes("anything") || to.startsWith("node:")) return undefined;
  if (folderFloorOf(to) === floor || floorOf(to) === floor) return undefined;
  if (allowed.some((pattern) => matches(pattern, to))) return undefined;
  return allowed.length === 0
    ? `the floor ${floor} imports nothing but itself`
    : `the floor ${floor} may import only itself, ${allowed.join(", ")}`;
}

/** The row that a path belongs to. */
export function floorOf(path: string): string | undefined {
  return path in FLOORS ? path : folderFloorOf(path);
}

/** The row of the folder that a path is in, even where the file has a row of its own. */
function folderFloorOf(path: string): string | undefined {
  return Object.keys(FLOORS)
    .filter((floor) => floor.endsWith("/") && path.startsWith(floor))
    // The row of lib/ is the front desk; a new folder beside it needs a row of its own.
    .filter((floor) => floor !== "lib/" || !path.slice(floor.length).includes("/"))
    .sort((a, b) => b.length - a.length)[0];
}

/** `@std/http/status` → `@std/http`, `npm:openai@7/x` → `npm:openai`, a path → itself. */
function packageOf(specifier: string): string {
  return /^(?:npm:|jsr:)?(?:@[^/]+\/)?[^/@]+/.exec(specifier)?.[0] ?? specifier;
}

function matches(pattern: string, path: string): boolean {
  if (pattern.endsWith("/")) return path.startsWith(pattern);
  // A package's pattern covers its sub-paths too.
  const isPackage = /^(?:@|npm:)/.test(pattern) && pattern.endsWith("*");
  if (isPackage) return path.startsWith(pattern.slice(0, -1).replace(/\/$/, ""));
  const expression = pattern
    .replaceAll(/[.+^$()|[\]\\]/g, "\\$&")
    .replaceAll(/\{([^}]*)\}/g, (_, names: string) => `(?:${names.replaceAll(",", "|")})`)
    .replaceAll("*", "[^/]*");
  return new RegExp(`^${expression}$`).test(path);
}
