/** What upper floors say: a model's step as a list of operations on activations, weights and KV layers. */

import { type KvPool, summaryPartWords } from "../kernel_table.ts";
import { type Router, type RoutingShape, routingWords } from "../routing.ts";
import type { EmbedIds, MatmulOp, Op, RowDomain, ValueId } from "./ops.ts";

/**
 * A weight a graph reads: a matrix [n, k], `count` such matrices of experts, one after another, a
 * vector [length] or a table [rows, width] of float32.
 */
export type WeightShape =
  | { readonly kind: "matrix"; readonly n: number; readonly k: number }
  | { readonly kind: "experts"; readonly count: number; readonly n: number; readonly k: number }
  | { readonly kind: "vector"; readonly length: number }
  | { readonly kind: "table"; readonly rows: number; readonly width: number };

/** One layer's keys and values. */
export interface KvShape {
  /** Heads of keys and values. */
  readonly kvHeads: number;
  /** Floats in a head. */
  readonly headDim: number;
  /** Which blocks they are in. Default "global". */
  readonly pool?: KvPool;
}

/** One activation of a graph. */
export interface ValueShape {
  /** What there is a row for: each token, each output or each hidden state that is wanted. */
  readonly rows: RowDomain;
  /** Floats in a row. */
  readonly width: number;
}

/** A finished graph: plain data. */
export interface Graph {
  /** The graph's name: part of its wires' keys. */
  readonly name: string;
  /** The operations, in order. */
  readonly ops: readonly Op[];
  /** The activations, by id. */
  readonly values: readonly ValueShape[];
  /** The weights that are read, by name. */
  readonly weights: ReadonlyMap<string, WeightShape>;
  /** The KV layers, in order. */
  readonly kvLayers: readonly KvShape[];
  /** The value whose rows come back as outputs: [outputs, width]; null where there is none. */
  readonly output: ValueId | null;
  /** The value whose rows come back as hidden states: [hidden, width]; null where there is none. */
  readonly hidden: ValueId | null;
  /** The partial summaries of the output's rows; null where there are none. */
  readonly summary: ValueId | null;
  /** Experts that each token goes to; 0: there are none. */
  readonly choiceCount: number;
}

/** A value of the graph under construction. */
export interface Value extends ValueShape {
  /** Its number in the graph. */
  readonly id: ValueId;
}

/** Which experts the tokens of a step go to. */
export interface Routing extends Value, RoutingShape {}

/** How tokens are routed. */
export interface RouteOptions {
  /** How scores become choices and weights. */
  readonly router: Router;
  /** Experts that a token goes to. */
  readonly choiceCount: number;
  /** A declared vector [experts] that takes part in the choice only. Default null: none. */
  readonly bias?: string | null;
}

/** How queries meet keys. */
export interface AttentionOptions {
  /** Factor of the scores. */
  readonly scale: number;
  /** Keys a query sees, itself included; 0, the default: all. */
  readonly window?: number;
  /** Scores go through softcap · tanh(score / softcap); 0, the default: they stay as they are. */
  readonly softcap?: number;
  /** A declared vector [heads] of scores without values, one a head. Default null: none. */
  readonly sinks?: string | null;
  /** Which keys of its sequence a query sees: those up to its own, the default, or all of them. */
  readonly sees?: "past" | "all";
}

/** What else there is to know about a matrix product. */
export type MatmulOptions = Partial<Pick<MatmulOp, "isSensitive">>;

/** Builds a {@linkcode Graph}, checking shapes as it goes. Throws a `TypeError` where they do not fit. */
export class GraphBuilder {
  readonly #name: string;
  readonly #ops: Op[] = [];
  readonly #values: ValueShape[] = [];
  readonly #weights = new Map<string, WeightShape>();
  readonly #kvLayers: KvShape[] = [];
  #choiceCount = 0;

  /** Makes it. */
  constructor(name: string) {
    this.#name = name;
  }

  /** Declares a weight matrix [n, k]: n outputs, k inputs. */
  matrix(name: string, n: number, k: number): string {
    return this.#declare(name, { kind: "matrix", n, k });
  }

  /** Declares the matrices [n, k] of `count` experts. n is a multiple of 8, so that panels are whole. */
  experts(name: string, count: number, n: number, k: number): string {
    this.#expect(n % 8 === 0, `experts "${name}": ${n} outputs are not a multiple of 8`);
    return this.#declare(name, { kind: "experts", count, n, k });
  }

  /** Declares a float32 vector: a norm's weight, a bias. */
  vector(name: string, length: number): string {
    return this.#declare(name, { kind: "vector", length });
  }

  /** Declares a float32 table [rows, width]. */
  table(name: string, rows: number, width: number): string {
    return this.#declare(name, { kind: "table", rows, width });
  }

  /** Declares the next layer's keys and values; returns the layer's index. */
  kvLayer(shape: KvShape): number {
    return this.#kvLayers.push(shape) - 1;
  }

  /** The rows of a weight that the step's token ids, or others of its integers, choose: [tokens, k]. */
  embed(weight: string, ids: EmbedIds = "tokenIds"): Value {
    const shape = this.#matrix(weight);
    const out = this.#value("tokens", shape.k);
    this.#ops.push({ op: "embed", weight, ids, out: out.id });
    return out;
  }

  /** The rows whose logits are wanted: [outputs, width]. */
  takeOutputRows(x: Value): Value {
    return this.#takeRows(x, "outputs");
  }

  /** The rows whose hidden states are wanted: [hidden, width]. */
  takeHiddenRows(x: Value): Value {
    return this.#takeRows(x, "hidden");
  }

  /** Root-mean-square norm over whole rows, as a new value. */
  rmsNorm(x: Value, weight: string, epsilon: number): Value {
    this.#vectorOf(weight, x.width);
    const out = this.#value(x.rows, x.width);
    this.#ops.push({ op: "rmsNorm", x: x.id, weight, epsilon, groups: 1, out: out.id });
    return out;
  }

  /** Root-mean-square norm of each of `heads` runs of every row, in place. */
  headNorm(x: Value, weight: string, epsilon: number, heads: number): void {
    this.#expect(x.width % heads === 0, `headNorm: ${heads} heads do not divide width ${x.width}`);
    this.#vectorOf(weight, x.width / heads);
    this.#ops.push({ op: "rmsNorm", x: x.id, weight, epsilon, groups: heads, out: x.id });
  }

  /** Layer norm of every row, in place. The width is a multiple of 8. */
  layerNorm(x: Value, weight: string, bias: string, epsilon: number): void {
    this.#expect(x.width % 8 === 0, `layerNorm: width ${x.width} is not a multiple of 8`);
    this.#vectorOf(weight, x.width);
    this.#vectorOf(bias, x.width);
    this.#ops.push({ op: "layerNorm", x: x.id, weight, bias, epsilon });
  }

  /** x · weightᵀ: [rows, n]. */
  matmul(x: Value, weight: string, { isSensitive = false }: MatmulOptions = {}): Value {
    const shape = this.#matrix(weight);
    this.#expect(
      shape.k === x.width,
      `matmul with "${weight}": it takes ${shape.k} inputs, the value has ${x.width}`,
    );
    const out = this.#value(x.rows, shape.n);
    this.#ops.push({ op: "matmul", x: x.id, weight, isSensitive, out: out.id });
    return out;
  }

  /** x += bias, in place. */
  addBias(x: Value, bias: string): void {
    this.#vectorOf(bias, x.width);
    this.#ops.push({ op: "addBias", x: x.id, bias });
  }

  /** x += y, in place. */
  add(x: Value, y: Value): void {
    this.#same(x, y, "add");
    this.#ops.push({ op: "add", x: x.id, y: y.id });
  }

  /** gate = silu(gate) · up, in place. */
  siluMultiply(gate: Value, up: Value): void {
    this.#same(gate, up, "siluMultiply");
    this.#ops.push({ op: "siluMultiply", gate: gate.id, up: up.id });
  }

  /** gate = geluTanh(gate) · up, in place: the GELU that is approximated by a tanh. */
  geluTanhMultiply(gate: Value, up: Value): void {
    this.#same(gate, up, "geluTanhMultiply");
    this.#ops.push({ op: "geluTanhMultiply", gate: gate.id, up: up.id });
  }

  /** Chooses experts for each token by its row of scores. All routings of a graph choose equally many. */
  route(logits: Value, { router, choiceCount, bias = null }: RouteOptions): Routing {
    const shape = { expertCount: logits.width, choiceCount };
    this.#expect(logits.rows === "tokens", "route: tokens are routed, not rows that were taken");
    this.#expect(
      Number.isInteger(choiceCount) && choiceCount > 0 && choiceCount <= shape.expertCount,
      `route: ${choiceCount} of ${shape.expertCount} experts cannot be chosen`,
    );
    this.#expect(
      this.#choiceCount === 0 || this.#choiceCount === choiceCount,
      `route: ${choiceCount} experts are chosen where others choose ${this.#choiceCount}`,
    );
    if (bias !== null) this.#vectorOf(bias, shape.expertCount);
    this.#choiceCount = choiceCount;
    const out = this.#value("tokens", routingWords(shape));
    this.#ops.push({ op: "route", logits: logits.id, router, bias, shape, out: out.id });
    return { ...out, ...shape };
  }

  /** The row of its token for each choice: [choices, width]. */
  takeChoices(x: Value, routing: Routing): Value {
    this.#expect(x.rows === "tokens", "takeChoices: it takes a row for each token");
    const out = this.#value("choices", x.width);
    const shape = shapeOf(routing);
    this.#ops.push({ op: "takeChoices", x: x.id, routing: routing.id, shape, out: out.id });
    return out;
  }

  /** x · weightᵀ, each row with the weight of its own expert: [choices, n]. */
  expertMatmul(x: Value, routing: Routing, weight: string): Value {
    const declared = this.#weights.get(weight);
    if (declared?.kind !== "experts") {
      throw new TypeError(`"${weight}" is not declared as experts`);
    }
    this.#expect(
      x.rows === "choices" && declared.k === x.width && declared.count === routing.expertCount,
      `expertMatmul with "${weight}": ${declared.count} experts take ${declared.k} inputs, ` +
        `the value has ${x.width} and its tokens chose among ${routing.expertCount}`,
    );
    const out = this.#value("choices", declared.n);
    const shape = shapeOf(routing);
    this.#ops.push({
      op: "expertMatmul",
      x: x.id,
      routing: routing.id,
      shape,
      weight,
      out: out.id,
    });
    return out;
  }

  /** x += the bias of each row's own expert, in place. `bias` is a declared table [experts, width]. */
  addExpertBias(x: Value, routing: Routing, bias: string): void {
    const declared = this.#weights.get(bias);
    this.#expect(
      x.rows === "choices" && declared?.kind === "table" &&
        declared.rows === routing.expertCount && declared.width === x.width,
      `"${bias}" is not a declared table of ${routing.expertCount} rows of ${x.width}`,
    );
    const shape = shapeOf(routing);
    this.#ops.push({ op: "addExpertBias", x: x.id, routing: routing.id, shape, bias });
  }

  /** gate = (u + 1) · g · sigmoid(1.702 · g), g = min(gate, limit), u = up within ±limit, in place. */
  clampedSwiglu(gate: Value, up: Value, limit: number): void {
    this.#same(gate, up, "clampedSwiglu");
    this.#expect(
      limit > 0 && Number.isFinite(limit),
      `clampedSwiglu: ${limit} is not a number above 0`,
    );
    this.#ops.push({ op: "clampedSwiglu", gate: gate.id, up: up.id, limit: Math.fround(limit) });
  }

  /** The sum of what its experts made of each token, times their weights: [tokens, width]. */
  sumExperts(y: Value, routing: Routing): Value {
    this.#expect(y.rows === "choices", "sumExperts: it takes a row for each choice");
    const out = this.#value("tokens", y.width);
    const shape = shapeOf(routing);
    this.#ops.push({ op: "sumExperts", y: y.id, routing: routing.id, shape, out: out.id });
    return out;
  }

  /** x = factor · x, in place. */
  scale(x: Value, factor: number): void {
    this.#expect(Number.isFinite(factor), `scale: ${factor} is not a finite number`);
    this.#ops.push({ op: "scale", x: x.id, factor: Math.fround(factor) });
  }

  /** x = cap · tanh(x / cap), in place. */
  softcap(x: Value, cap: number): void {
    this.#expect(cap > 0 && Number.isFinite(cap), `softcap: ${cap} is not a number above 0`);
    this.#ops.push({ op: "softcap", x: x.id, cap: Math.fround(cap) });
  }

  /** x = x · Φ(x), in place: the exact GELU. */
  gelu(x: Value): void {
    this.#ops.push({ op: "gelu", x: x.id });
  }

  /** Rotates `heads` heads of every row by the row's position, in place. */
  rope(x: Value, heads: number, table: string): void {
    const shape = this.#weights.get(table);
    this.#expect(shape?.kind === "table", `rope: "${table}" is not a declared table`);
    this.#expect(
      x.width % heads === 0 && (shape as { width: number }).width <= x.width / heads,
      `rope: a table of width ${(shape as { width: number }).width} and ${heads} heads of width ${
        x.width / heads
      } do not fit`,
    );
    this.#ops.push({ op: "rope", x: x.id, heads, table });
  }

  /** Stores keys and values of the step's tokens. */
  writeKv(layer: number, k: Value, v: Value): void {
    const shape = this.#layer(layer);
    this.#same(k, v, "writeKv");
    this.#expect(
      k.width === shape.kvHeads * shape.headDim,
      `writeKv: layer ${layer} takes ${shape.kvHeads} heads of ${shape.headDim}, the value has width ${k.width}`,
    );
    this.#ops.push({ op: "writeKv", k: k.id, v: v.id, layer });
  }

  /**
   * Attention of q over what is stored for the row's sequence, as a new value: causal, or with
   * `sees: "all"` over every key up to the last one that the step stores. Window, softcap and sinks
   * are for causal attention only.
   */
  attention(
    layer: number,
    q: Value,
    { scale, window = 0, softcap = 0, sinks = null, sees = "past" }: AttentionOptions,
  ): Value {
    const { headDim, kvHeads, pool = "global" } = this.#layer(layer);
    const heads = q.width / headDim;
    this.#expect(
      Number.isInteger(heads / kvHeads),
      `attention: width ${q.width} is not a multiple of ${kvHeads} KV heads of ${headDim}`,
    );
    this.#expect(
      pool === "global" || window > 0,
      `attention: layer ${layer} keeps a window of its tokens, so a query must have one`,
    );
    this.#expect(
      sees === "past" || (window === 0 && softcap === 0 && sinks === null),
      "attention: a query that sees all has no window, softcap or sinks",
    );
    this.#expect(
      softcap >= 0 && Number.isFinite(softcap),
      `attention: the softcap ${softcap} is not a number of at least 0`,
    );
    if (sinks !== null) this.#vectorOf(sinks, heads);
    const out = this.#value(q.rows, q.width);
    const options = { scale, window, softcap, sinks, sees };
    this.#ops.push({ op: "attention", q: q.id, layer, heads, ...options, out: out.id });
    return out;
  }

  /**
   * The finished graph. `output` is what comes back for outputs, with summaries of its rows if they
   * are asked for, and `hidden` what comes back for hidden states; null: nothing.
   */
  finish(
    output: Value | null,
    { summarize = false, hidden = null }: { summarize?: boolean; hidden?: Value | null } = {},
  ): Graph {
    this.#expect(output !== null || hidden !== null, "A graph must give something back");
    this.#expect(
      output === null || output.rows === "outputs",
      "The graph's output must have a row for each output",
    );
    this.#expect(
      hidden === null || hidden.rows === "hidden",
      "The graph's hidden states must have a row for each one that is wanted",
    );
    const summary = summarize && output !== null ? this.#summarizeRows(output).id : null;
    return {
      name: this.#name,
      ops: this.#ops,
      values: this.#values,
      weights: this.#weights,
      kvLayers: this.#kvLayers,
      output: output?.id ?? null,
      hidden: hidden?.id ?? null,
      summary,
      choiceCount: this.#choiceCount,
    };
  }

  #takeRows(x: Value, rows: "outputs" | "hidden"): Value {
    this.#expect(x.rows === "tokens", `Rows of value ${x.id} are taken: they were taken already`);
    const out = this.#value(rows, x.width);
    this.#ops.push({ op: "takeRows", x: x.id, out: out.id });
    return out;
  }

  #summarizeRows(x: Value): Value {
    const out = this.#value(x.rows, summaryPartWords(x.width));
    this.#ops.push({ op: "summarizeRows", x: x.id, out: out.id });
    return out;
  }

  #declare(name: string, shape: WeightShape): string {
    const known = this.#weights.get(name);
    this.#expect(
      known === undefined || JSON.stringify(known) === JSON.stringify(shape),
      `"${name}" is declared twice with different shapes`,
    );
    this.#weights.set(name, shape);
    return name;
  }

  #value(rows: RowDomain, width: number): Value {
    this.#expect(Number.isInteger(width) && width > 0, `A value cannot have width ${width}`);
    return { id: this.#values.push({ rows, width }) - 1, rows, width };
  }

  #matrix(name: string): { n: number; k: number } {
    const shape = this.#weights.get(name);
    if (shape?.kind !== "matrix") throw new TypeError(`"${name}" is not a declared matrix`);
    return shape;
  }

  #vectorOf(name: string, length: number): void {
    const shape = this.#weights.get(name);
    this.#expect(
      shape?.kind === "vector" && shape.length === length,
      `"${name}" is not a declared vector of length ${length}`,
    );
  }

  #layer(layer: number): KvShape {
    const shape = this.#kvLayers[layer];
    if (shape === undefined) throw new TypeError(`There is no KV layer ${layer}`);
    return shape;
  }

  #same(a: Value, b: Value, what: string): void {
    this.#expect(
      a.rows === b.rows && a.width === b.width,
      `${what}: [${a.rows}, ${a.width}] and [${b.rows}, ${b.width}] do not fit`,
    );
  }

  #expect(condition: boolean, message: string): asserts condition {
    if (!condition) throw new TypeError(message);
  }
}

function shapeOf({ expertCount, choiceCount }: Routing): RoutingShape {
  return { expertCount, choiceCount };
}
