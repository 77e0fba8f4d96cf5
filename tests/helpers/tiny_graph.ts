/** A two-layer decoder graph with every operation in it, small enough to read its wire. */

import { type Graph, GraphBuilder } from "../../lib/device/compiler/graph.ts";

/** Widths of {@linkcode tinyGraph}. */
export const TINY = { vocab: 20, hidden: 16, heads: 2, kvHeads: 1, headDim: 8, inner: 24 } as const;

/** Two layers: attention with biases, norms on heads and a window, then a gated MLP. */
export function tinyGraph(positions = 64, layers = 2): Graph {
  const { vocab, hidden, heads, kvHeads, headDim, inner } = TINY;
  const b = new GraphBuilder("tiny");
  const embedding = b.matrix("embedding", vocab, hidden);
  const rope = b.table("rope", positions, headDim);
  const h = b.embed(embedding);
  for (let layer = 0; layer < layers; layer++) {
    const x = b.rmsNorm(h, b.vector(`${layer}.norm1`, hidden), 1e-6);
    const q = b.matmul(x, b.matrix(`${layer}.q`, heads * headDim, hidden));
    const k = b.matmul(x, b.matrix(`${layer}.k`, kvHeads * headDim, hidden));
    const v = b.matmul(x, b.matrix(`${layer}.v`, kvHeads * headDim, hidden));
    b.addBias(q, b.vector(`${layer}.qb`, heads * headDim));
    b.headNorm(k, b.vector(`${layer}.kn`, headDim), 1e-6, kvHeads);
    b.rope(q, heads, rope);
    b.rope(k, kvHeads, rope);
    const kv = b.kvLayer({ kvHeads, headDim });
    b.writeKv(kv, k, v);
    const a = b.attention(kv, q, { scale: 0.5, window: layer === 0 ? 0 : 5 });
    b.add(h, b.matmul(a, b.matrix(`${layer}.o`, hidden, heads * headDim)));
    const y = b.rmsNorm(h, b.vector(`${layer}.norm2`, hidden), 1e-6);
    const gate = b.matmul(y, b.matrix(`${layer}.gate`, inner, hidden));
    const up = b.matmul(y, b.matrix(`${layer}.up`, inner, hidden));
    b.siluMultiply(gate, up);
    b.add(h, b.matmul(gate, b.matrix(`${layer}.down`, hidden, inner)));
  }
  const last = b.rmsNorm(b.takeOutputRows(h), b.vector("norm", hidden), 1e-6);
  return b.finish(b.matmul(last, embedding), { summarize: true });
}
