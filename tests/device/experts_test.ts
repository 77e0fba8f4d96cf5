/** A mixture of experts on a device: what is computed, with which bits, and what is not read. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { GraphBuilder, openDevice, type Router } from "../../lib/device/device.ts";
import { Random, randomSeed } from "./kernel_contract.ts";

const SHAPE = { tokens: 12, hidden: 16, inner: 24, experts: 6, choices: 2 } as const;

interface Weights {
  readonly table: Float32Array;
  readonly router: Float32Array;
  readonly gate: Float32Array;
  readonly up: Float32Array;
  readonly down: Float32Array;
}

function randomWeights(random: Random): Weights {
  const { tokens, hidden, inner, experts } = SHAPE;
  const floats = (count: number) =>
    Float32Array.from({ length: count }, () => random.float() * 2 - 1);
  return {
    table: floats(tokens * hidden),
    router: floats(experts * hidden),
    gate: floats(experts * inner * hidden),
    up: floats(experts * inner * hidden),
    down: floats(experts * hidden * inner),
  };
}

/** One layer: the embedded tokens and what their experts make of them. */
function expertGraph(router: Router) {
  const { tokens, hidden, inner, experts, choices } = SHAPE;
  const b = new GraphBuilder("experts");
  const x = b.embed(b.matrix("table", tokens, hidden));
  const scores = b.matmul(x, b.matrix("router", experts, hidden));
  const routing = b.route(scores, { router, choiceCount: choices });
  const rows = b.takeChoices(x, routing);
  const gate = b.expertMatmul(rows, routing, b.experts("gate", experts, inner, hidden));
  const up = b.expertMatmul(rows, routing, b.experts("up", experts, inner, hidden));
  b.siluMultiply(gate, up);
  const down = b.expertMatmul(gate, routing, b.experts("down", experts, hidden, inner));
  b.add(x, b.sumExperts(down, routing));
  return b.finish(b.takeOutputRows(x));
}

interface Setting {
  readonly threads: number;
  readonly kernels?: "simd" | "reference";
}

/** Rows of tokens, and how many expert matrices the elements multiplied with. */
async function run(
  { table, router, gate, up, down }: Weights,
  tokens: readonly number[],
  setting: Setting,
): Promise<{ rows: number[][]; matmuls: number[] }> {
  const { hidden, inner, experts } = SHAPE;
  await using device = await openDevice(setting);
  const upload = (name: string, n: number, k: number, values: Float32Array) => {
    device.allocateMatrix(name, "f32", n, k);
    device.uploadRows(name, 0, n, new Uint8Array(values.slice().buffer));
  };
  upload("table", SHAPE.tokens, hidden, table);
  upload("router", experts, hidden, router);
  upload("gate", experts * inner, hidden, gate);
  upload("up", experts * inner, hidden, up);
  upload("down", experts * hidden, inner, down);
  const graph = expertGraph({ kind: "softmax", normalizes: true });
  const bucket = { kind: "prefill", batchSize: 1, attentionSize: 16, tokenCount: 16 } as const;
  const steps = Int32Array.from(tokens, (_, i) => i);
  const result = await device.run(device.prepare(graph, bucket), {
    tokenIds: Int32Array.from(tokens),
    positions: steps,
    slots: steps,
    sequences: new Int32Array(tokens.length),
    blockTables: [[0]],
    outputRows: steps,
  });
  const rows = tokens.map((_, i) => [...result.row(i)]);
  const trace = await device.trace();
  const matmuls = trace.filter(({ kernel }) => kernel.includes(".expertMatmul"));
  return { rows, matmuls: matmuls.map(({ count }) => count) };
}

const dot = (a: Float32Array, aAt: number, b: ArrayLike<number>, length: number) => {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += a[aAt + i]! * b[i]!;
  return sum;
};

/** The experts of a token, best first, and their weights. */
function choose({ table, router }: Weights, token: number): [expert: number, weight: number][] {
  const { hidden, experts, choices } = SHAPE;
  const x = table.subarray(token * hidden, (token + 1) * hidden);
  const logits = Array.from({ length: experts }, (_, e) => dot(router, e * hidden, x, hidden));
  const best = logits.map((_, e) => e).sort((a, b) => logits[b]! - logits[a]!).slice(0, choices);
  const sum = best.reduce((total, e) => total + Math.exp(logits[e]!), 0);
  return best.map((e) => [e, Math.exp(logits[e]!) / sum]);
}

/** Everything in float64. */
function expectedRow(weights: Weights, token: number): number[] {
  const { hidden, inner } = SHAPE;
  const x = weights.table.subarray(token * hidden, (token + 1) * hidden);
  const out = [...x];
  for (const [expert, weight] of choose(weights, token)) {
    const middle = Array.from({ length: inner }, (_, i) => {
      const row = (expert * inner + i) * hidden;
      const gate = dot(weights.gate, row, x, hidden);
      return gate / (1 + Math.exp(-gate)) * dot(weights.up, row, x, hidden);
    });
    for (let i = 0; i < hidden; i++) {
      out[i]! += weight * dot(weights.down, (expert * hidden + i) * inner, middle, inner);
    }
  }
  return out;
}

const ALL = Array.from({ length: SHAPE.tokens }, (_, i) => i);

Deno.test("Experts give the weighted sum, to the same bits alone, in a crowd, on 0 to 3 threads", async () => {
  const random = new Random(randomSeed());
  const weights = randomWeights(random);
  const { rows } = await run(weights, ALL, { threads: 0 });
  for (const token of ALL) {
    for (const [i, expected] of expectedRow(weights, token).entries()) {
      const difference = Math.abs(rows[token]![i]! - expected);
      assert(difference <= 2e-5, `${random}: token ${token} at ${i} is off by ${difference}`);
    }
  }
  for (const threads of [1, 2, 3]) {
    assertEquals(
      (await run(weights, ALL, { threads })).rows,
      rows,
      `${random}: ${threads} threads`,
    );
  }
  const some = random.shuffle(ALL).slice(0, 5);
  const company = await run(weights, some, { threads: 2 });
  assertEquals(company.rows, some.map((token) => rows[token]!), `${random}: ${some}`);
  for (const token of ALL.slice(0, 4)) {
    assertEquals((await run(weights, [token], { threads: 1 })).rows, [rows[token]!], `${random}`);
  }
  const { rows: plain } = await run(weights, ALL, { threads: 1, kernels: "reference" });
  for (const [token, row] of plain.entries()) {
    for (const [i, value] of row.entries()) assert(Math.abs(value - rows[token]![i]!) < 1e-5);
  }
});

Deno.test("Only chosen experts are read: NaN in all others does not show, and each is multiplied once", async () => {
  const random = new Random(randomSeed());
  const weights = randomWeights(random);
  const { hidden, inner, experts } = SHAPE;
  for (const tokens of [[3], [0, 7], ALL]) {
    const chosen = new Set(tokens.flatMap((token) => choose(weights, token).map(([e]) => e)));
    const poisoned = {
      ...weights,
      gate: weights.gate.slice(),
      up: weights.up.slice(),
      down: weights.down.slice(),
    };
    for (let expert = 0; expert < experts; expert++) {
      if (chosen.has(expert)) continue;
      const size = inner * hidden;
      for (const name of ["gate", "up", "down"] as const) {
        poisoned[name].fill(NaN, expert * size, (expert + 1) * size);
      }
    }
    const sound = await run(weights, tokens, { threads: 2 });
    const actual = await run(poisoned, tokens, { threads: 2 });
    assertEquals(actual.rows, sound.rows, `${random}: tokens ${tokens}`);
    assert(actual.rows.flat().every(Number.isFinite));
    // Three products an expert, on each of two elements.
    assertEquals(actual.matmuls, [3 * chosen.size, 3 * chosen.size]);
  }
});

Deno.test("A graph refuses experts that do not fit", () => {
  const b = new GraphBuilder("misfits");
  const x = b.embed(b.matrix("table", 8, 16));
  const scores = b.matmul(x, b.matrix("router", 4, 16));
  const router: Router = { kind: "softmax", normalizes: false };
  const refuse = (call: () => unknown, says: string) => assertThrows(call, TypeError, says);
  refuse(() => b.route(scores, { router, choiceCount: 5 }), "5 of 4 experts cannot be chosen");
  refuse(() => b.route(scores, { router, choiceCount: 0 }), "0 of 4 experts");
  refuse(() => b.route(scores, { router, choiceCount: 1, bias: "none" }), "not a declared vector");
  refuse(() => b.route(b.takeOutputRows(scores), { router, choiceCount: 1 }), "tokens are routed");
  const routing = b.route(scores, { router, choiceCount: 2 });
  refuse(() => b.route(scores, { router, choiceCount: 1 }), "1 experts are chosen where others");
  refuse(() => b.experts("odd", 4, 12, 16), "not a multiple of 8");
  const rows = b.takeChoices(x, routing);
  refuse(() => b.takeChoices(rows, routing), "a row for each token");
  refuse(() => b.expertMatmul(rows, routing, "table"), "not declared as experts");
  refuse(() => b.expertMatmul(rows, routing, b.experts("few", 3, 8, 16)), "3 experts take 16");
  refuse(() => b.expertMatmul(x, routing, b.experts("gate", 4, 8, 16)), "4 experts take 16");
  refuse(() => b.addExpertBias(rows, routing, b.table("bias", 4, 8)), "4 rows of 16");
  refuse(() => b.sumExperts(x, routing), "a row for each choice");
  refuse(() => b.clampedSwiglu(rows, rows, 0), "not a number above 0");
});
