import { assert, assertEquals, assertThrows } from "@std/assert";
import { compile, type CompileTarget } from "../../lib/device/compiler/compile.ts";
import { type Graph, GraphBuilder } from "../../lib/device/compiler/graph.ts";
import { opShape } from "../../lib/device/compiler/ops.ts";
import { partition } from "../../lib/device/compiler/partition.ts";
import { place } from "../../lib/device/compiler/place.ts";
import { wireText } from "../../lib/device/compiler/wire.ts";
import { WireCache } from "../../lib/device/compiler/wire_cache.ts";
import { bertGraph } from "../../lib/models/architectures/bert.ts";
import { expertDecoderGraph } from "../../lib/models/architectures/expert_decoder.ts";
import { readModelConfig } from "../../lib/models/config.ts";
import { assertGolden } from "../helpers/golden.ts";
import { goldenEncoder, goldenModel } from "../helpers/golden_models.ts";
import { tinyGraph } from "../helpers/tiny_graph.ts";
import { tinyConfig } from "../helpers/tiny_model.ts";

/** An encoder of so many layers. */
function encoderGraph(layers: number): Graph {
  const json = { ...tinyConfig(goldenEncoder()), num_hidden_layers: layers };
  const config = readModelConfig("config.json", json);
  assert(config.kind === "encoder");
  return bertGraph(config);
}

/** Addresses that only depend on names, so that golden wires stay put. */
function target(
  peCount: number,
  graph: Graph = tinyGraph(),
): CompileTarget & { arenaBytes: number[] } {
  const addresses = new Map([...graph.weights.keys()].map((name, i) => [name, 0x1000 * (i + 1)]));
  const address = (name: string) => addresses.get(name) as number;
  const arenaBytes: number[] = [];
  return {
    arenaBytes,
    peCount,
    maxOutputRows: 4,
    activations: "i8",
    address,
    matrix(name) {
      const shape = graph.weights.get(name);
      assert(shape?.kind === "matrix" || shape?.kind === "experts");
      const count = shape.kind === "experts" ? shape.count : 1;
      return { address: address(name), format: "f32", n: count * shape.n, k: shape.k };
    },
    kvLayer: (index) => ({
      keys: 0x100000 * (index + 1),
      values: 0x100000 * (index + 1) + 0x8000,
      dtype: "bf16",
      kvHeads: graph.kvLayers[index]?.kvHeads ?? 0,
      headDim: graph.kvLayers[index]?.headDim ?? 0,
    }),
    arena(sizeBytes) {
      arenaBytes.push(sizeBytes);
      return 0x800000;
    },
  };
}

const bucket = { kind: "append", batchSize: 2, attentionSize: 32, tokenCount: 8 } as const;

Deno.test("The wire of the tiny graph reads as its golden file says", async () => {
  await assertGolden("wires/tiny.wire", wireText(compile(tinyGraph(), bucket, target(2))));
});

Deno.test("The wire of a layer with experts reads as its golden file says", async () => {
  const json = { ...tinyConfig(goldenModel("gpt_oss")), num_hidden_layers: 1, layer_types: null };
  const config = readModelConfig("config.json", json);
  assert(config.kind === "decoder");
  const graph = expertDecoderGraph(config, 64);
  await assertGolden("wires/experts.wire", wireText(compile(graph, bucket, target(2, graph))));
});

Deno.test("The wire of an encoder's layer reads as its golden file says", async () => {
  const graph = encoderGraph(1);
  await assertGolden("wires/encoder.wire", wireText(compile(graph, bucket, target(2, graph))));
});

Deno.test("Integer activations go to products with quantised weights, and to no others", () => {
  const floats = target(2);
  const quantised: CompileTarget = {
    ...floats,
    matrix: (name) => ({ ...floats.matrix(name), format: name.endsWith(".o") ? "f32" : "q8_0" }),
  };
  const { commands } = compile(tinyGraph(), bucket, quantised);
  const found = commands.flatMap((command) =>
    command.op === "matmul" ? [[command.weight.format, command.activations]] : []
  );
  assert(found.some(([format]) => format === "f32") && found.some(([format]) => format === "q8_0"));
  for (const [format, activations] of found) {
    assertEquals(activations, format === "q8_0" ? "i8" : "f32");
  }
});

Deno.test("Products that are sensitive get sixteen bits where others get eight", () => {
  const builder = new GraphBuilder("two products");
  const x = builder.embed(builder.matrix("table", 64, 32));
  const first = builder.matmul(x, builder.matrix("first", 32, 32), { isSensitive: true });
  const second = builder.matmul(first, builder.matrix("second", 32, 32));
  const graph = builder.finish(builder.takeOutputRows(second));
  for (const [activations, expected] of [["i8", "i16"], ["i16", "i16"], ["f32", "f32"]] as const) {
    const { commands } = compile(graph, bucket, {
      ...target(1),
      activations,
      address: () => 0,
      matrix: (name) => ({ address: 0, format: "q4_1", n: name === "table" ? 64 : 32, k: 32 }),
    });
    const found = commands.flatMap((c) => c.op === "matmul" ? [c.activations] : []);
    assertEquals(found, [expected, activations]);
  }
});

Deno.test("A wire is plain data: it survives a round trip through JSON", () => {
  const wire = compile(tinyGraph(), bucket, target(2));
  assertEquals(JSON.parse(JSON.stringify(wire)), wire);
});

for (
  const [name, graph] of [["a decoder", tinyGraph()], ["an encoder", encoderGraph(2)]] as const
) {
  Deno.test(`No two operations of a phase of ${name} touch one value in ways that need a barrier`, () => {
    checkPhases(graph);
  });
}

function checkPhases(graph: Graph): void {
  const program = partition(graph);
  for (const [i, first] of program.entries()) {
    for (const second of program.slice(i + 1).filter((step) => step.phase === first.phase)) {
      const a = opShape(first.op);
      const b = opShape(second.op);
      for (const write of a.writes) {
        for (const access of [...b.reads, ...b.writes]) {
          if (access.resource !== write.resource) continue;
          assert(
            write.split === "private" || (write.split === access.split && write.split !== "all"),
            `${first.op.op} writes ${write.resource} by ${write.split}, ${second.op.op} takes it by ${access.split} in phase ${first.phase}`,
          );
        }
      }
      for (const read of a.reads) {
        for (const write of b.writes) {
          if (read.resource !== write.resource) continue;
          assertEquals(
            read.split,
            write.split,
            `${second.op.op} overwrites what ${first.op.op} reads`,
          );
        }
      }
    }
  }
}

Deno.test("A decoder's layer takes six barriers, an encoder's eight", () => {
  const phases = (graph: Graph) => Math.max(...partition(graph).map((s) => s.phase));
  assertEquals(phases(tinyGraph(64, 3)) - phases(tinyGraph(64, 2)), 6);
  assertEquals(phases(encoderGraph(3)) - phases(encoderGraph(2)), 8);
});

Deno.test("Values that live at the same time never share memory; others do", () => {
  for (const graph of [tinyGraph(64, 6), encoderGraph(6)]) checkPlacements(graph);
});

function checkPlacements(graph: Graph): void {
  const program = partition(graph);
  const options = { tokenCount: 8, outputCount: 4, peCount: 3, reservedBytes: 100 };
  const { placements, arenaBytes } = place(graph, program, options);
  const lives = graph.values.map((_, id) => {
    const phases = program
      .filter(({ op }) => {
        const { reads, writes } = opShape(op);
        return [...reads, ...writes].some(({ resource }) => resource === id);
      })
      .map(({ phase }) => phase);
    const isResult = id === graph.output || id === graph.hidden;
    const last = isResult ? Infinity : Math.max(...phases);
    return { first: Math.min(...phases), last };
  });
  let summedBytes = 0;
  const regions = placements.map(({ offset, stride, copyBytes }, id) => {
    const rows = graph.values[id]?.rows === "outputs" ? 4 : 8;
    const size = copyBytes > 0 ? copyBytes * 3 : rows * stride * 4;
    summedBytes += size;
    assert(offset >= 100 && offset % 64 === 0 && offset + size <= arenaBytes);
    return { start: offset, end: offset + size, ...(lives[id] as { first: number; last: number }) };
  });
  for (const [i, a] of regions.entries()) {
    for (const b of regions.slice(i + 1)) {
      const together = a.first <= b.last && b.first <= a.last;
      assert(!together || a.end <= b.start || b.end <= a.start, `values overlap at ${a.start}`);
    }
  }
  assert(arenaBytes < summedBytes / 3, `${arenaBytes} bytes for ${summedBytes}: nothing is shared`);
}

Deno.test("A wire is compiled once for a graph and bucket, and hits are counted", () => {
  const cache = new WireCache(target(1));
  const graph = tinyGraph();
  assert(cache.get(graph, bucket) === cache.get(graph, { ...bucket }));
  cache.get(graph, { ...bucket, tokenCount: 4 });
  const { wireCount, hitCount, missCount, compileMs } = cache.stats();
  assertEquals({ wireCount, hitCount, missCount }, { wireCount: 2, hitCount: 1, missCount: 2 });
  assert(compileMs > 0);
});

Deno.test("Graphs whose shapes do not fit are refused with the shapes in the message", () => {
  const b = new GraphBuilder("wrong");
  const table = b.matrix("table", 8, 16);
  const h = b.embed(table);
  const refuse = (run: () => unknown, text: string) => assertThrows(run, TypeError, text);
  refuse(() => b.matmul(h, "nowhere"), '"nowhere" is not a declared matrix');
  refuse(() => b.matmul(h, b.matrix("m", 8, 24)), "it takes 24 inputs, the value has 16");
  refuse(() => b.matrix("table", 9, 16), "declared twice with different shapes");
  refuse(() => b.rmsNorm(h, b.vector("v", 8), 1e-6), '"v" is not a declared vector of length 16');
  refuse(() => b.headNorm(h, "v", 1e-6, 3), "3 heads do not divide width 16");
  refuse(() => b.add(h, b.matmul(h, b.matrix("n", 8, 16))), "do not fit");
  refuse(() => b.rope(h, 2, "table"), "is not a declared table");
  refuse(() => b.rope(h, 2, b.table("wide", 4, 32)), "a table of width 32");
  refuse(() => b.attention(0, h, { scale: 1, window: 0 }), "There is no KV layer 0");
  const kv = b.kvLayer({ kvHeads: 3, headDim: 8 });
  refuse(() => b.attention(kv, h, { scale: 1, window: 0 }), "is not a multiple of 3 KV heads");
  refuse(() => b.writeKv(kv, h, h), "layer 0 takes 3 heads of 8");
  refuse(
    () => b.attention(kv, b.embed(b.matrix("e", 8, 24)), { scale: 1, window: 2, sees: "all" }),
    "a query that sees all has no window",
  );
  refuse(() => b.layerNorm(h, "v", "v", 1e-6), '"v" is not a declared vector of length 16');
  refuse(() => b.finish(h), "must have a row for each output");
  refuse(() => b.finish(null), "must give something back");
  refuse(() => b.finish(null, { hidden: h }), "must have a row for each one that is wanted");
  refuse(() => b.takeHiddenRows(b.takeOutputRows(h)), "they were taken already");
});
