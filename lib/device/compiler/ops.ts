/** The instruction set: every operation a graph can hold, what it reads and writes, and how its work splits. */

import type { Router, RoutingShape } from "../routing.ts";

/** Number of a value in its graph: activations [rows, width] in float32. */
export type ValueId = number;

/**
 * Whether a value has a row for each token of the step, one for each row whose logits are wanted,
 * one for each row whose hidden state is wanted, or one for each expert that a token goes to.
 */
export type RowDomain = "tokens" | "outputs" | "hidden" | "choices";

/** The integers of a step by which rows of a weight are chosen, one a token. */
export type EmbedIds = "tokenIds" | "positions" | "tokenTypes";

/** out = weight rows of the step's token ids, positions or token types. */
export interface EmbedOp {
  /** The operation's name. */
  readonly op: "embed";
  /** The weight that is read. */
  readonly weight: string;
  /** What chooses its rows. */
  readonly ids: EmbedIds;
  /** What is written. */
  readonly out: ValueId;
}

/** out = the rows of x that the step wants logits for, or hidden states. */
export interface TakeRowsOp {
  /** The operation's name. */
  readonly op: "takeRows";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** What is written. */
  readonly out: ValueId;
}

/** out = x / rms(x) · weight, for each of `groups` runs of a row. out may be x. */
export interface RmsNormOp {
  /** The operation's name. */
  readonly op: "rmsNorm";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** The weight that is read. */
  readonly weight: string;
  /** Added to the mean of squares. */
  readonly epsilon: number;
  /** Runs of a row that are normalised on their own. */
  readonly groups: number;
  /** What is written. */
  readonly out: ValueId;
}

/** x = (x − mean(x)) / sqrt(variance(x) + epsilon) · weight + bias, in place. */
export interface LayerNormOp {
  /** The operation's name. */
  readonly op: "layerNorm";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** The factors. */
  readonly weight: string;
  /** The vector that is added. */
  readonly bias: string;
  /** Added to the variance. */
  readonly epsilon: number;
}

/** out = x · weightᵀ. */
export interface MatmulOp {
  /** The operation's name. */
  readonly op: "matmul";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** The weight that is read. */
  readonly weight: string;
  /** Whether its activations have sixteen bits where others have eight. */
  readonly isSensitive: boolean;
  /** What is written. */
  readonly out: ValueId;
}

/** x += bias, in place. */
export interface AddBiasOp {
  /** The operation's name. */
  readonly op: "addBias";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** The vector that is added. */
  readonly bias: string;
}

/** x += y, in place. */
export interface AddOp {
  /** The operation's name. */
  readonly op: "add";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** What is added. */
  readonly y: ValueId;
}

/** gate = silu(gate) · up, in place. */
export interface SiluMultiplyOp {
  /** The operation's name. */
  readonly op: "siluMultiply";
  /** The half that goes through silu; the result replaces it. */
  readonly gate: ValueId;
  /** The half that the gate is multiplied with. */
  readonly up: ValueId;
}

/** x = x · Φ(x), Φ the distribution function of the normal distribution, in place. */
export interface GeluOp {
  /** The operation's name. */
  readonly op: "gelu";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
}

/** gate = geluTanh(gate) · up, in place. */
export interface GeluTanhMultiplyOp {
  /** The operation's name. */
  readonly op: "geluTanhMultiply";
  /** The half that goes through the GELU; the result replaces it. */
  readonly gate: ValueId;
  /** The half that the gate is multiplied with. */
  readonly up: ValueId;
}

/** x = factor · x, in place. */
export interface ScaleOp {
  /** The operation's name. */
  readonly op: "scale";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** A float32. */
  readonly factor: number;
}

/** x = cap · tanh(x / cap), in place. */
export interface SoftcapOp {
  /** The operation's name. */
  readonly op: "softcap";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** What no element's size exceeds. */
  readonly cap: number;
}

/** Rotates x by position, in place. */
export interface RopeOp {
  /** The operation's name. */
  readonly op: "rope";
  /** What is read, and changed where the operation works in place. */
  readonly x: ValueId;
  /** Heads in a row. */
  readonly heads: number;
  /** Cosines and sines by position. */
  readonly table: string;
}

/** Stores k and v in the layer's KV blocks. */
export interface WriteKvOp {
  /** The operation's name. */
  readonly op: "writeKv";
  /** Keys. */
  readonly k: ValueId;
  /** Values. */
  readonly v: ValueId;
  /** Index of the KV layer. */
  readonly layer: number;
}

/** out = attention of q over the layer's KV blocks. */
export interface AttentionOp {
  /** The operation's name. */
  readonly op: "attention";
  /** Queries. */
  readonly q: ValueId;
  /** Index of the KV layer. */
  readonly layer: number;
  /** Heads in a row. */
  readonly heads: number;
  /** Factor of the scores. */
  readonly scale: number;
  /** Keys a query sees, itself included; 0: all. */
  readonly window: number;
  /** Scores go through softcap · tanh(score / softcap); 0: they stay as they are. */
  readonly softcap: number;
  /**
   * Vector [heads]: a score of each head that takes part in the softmax and has no value. It is
   * neither scaled nor capped. null: there are none.
   */
  readonly sinks: string | null;
  /** Which keys of its sequence a query sees: those up to its own, or all of them. */
  readonly sees: "past" | "all";
  /** What is written. */
  readonly out: ValueId;
}

/** out = what is found of each row in one processing element's part of its columns. */
export interface SummarizeRowsOp {
  /** The operation's name. */
  readonly op: "summarizeRows";
  /** What is read. */
  readonly x: ValueId;
  /** What is written: one partial summary a row, in a copy of each element's own. */
  readonly out: ValueId;
}

/** out = the experts that each token goes to (`routing.ts`), in a copy of each element's own. */
export interface RouteOp {
  /** The operation's name. */
  readonly op: "route";
  /** A score for each expert. */
  readonly logits: ValueId;
  /** How they become choices and weights. */
  readonly router: Router;
  /** Vector [experts] that takes part in the choice only; null: there is none. */
  readonly bias: string | null;
  /** How many experts there are, and how many are chosen. */
  readonly shape: RoutingShape;
  /** What is written. */
  readonly out: ValueId;
}

/** out = a row of x for each choice, in the order of the experts. */
export interface TakeChoicesOp {
  /** The operation's name. */
  readonly op: "takeChoices";
  /** A row for each token. */
  readonly x: ValueId;
  /** Who chose what. */
  readonly routing: ValueId;
  /** How many experts there are, and how many are chosen. */
  readonly shape: RoutingShape;
  /** What is written. */
  readonly out: ValueId;
}

/** out = x · weightᵀ with the weight of each row's own expert. Those of other experts are not read. */
export interface ExpertMatmulOp {
  /** The operation's name. */
  readonly op: "expertMatmul";
  /** A row for each choice. */
  readonly x: ValueId;
  /** Who chose what. */
  readonly routing: ValueId;
  /** How many experts there are, and how many are chosen. */
  readonly shape: RoutingShape;
  /** The weights of all experts. */
  readonly weight: string;
  /** What is written. */
  readonly out: ValueId;
}

/** x += the bias of each row's own expert, in place. */
export interface AddExpertBiasOp {
  /** The operation's name. */
  readonly op: "addExpertBias";
  /** A row for each choice. */
  readonly x: ValueId;
  /** Who chose what. */
  readonly routing: ValueId;
  /** How many experts there are, and how many are chosen. */
  readonly shape: RoutingShape;
  /** Table [experts, width]. */
  readonly bias: string;
}

/** gate = (u + 1) · g · sigmoid(1.702 · g), g = min(gate, limit), u = up within ±limit, in place. */
export interface ClampedSwigluOp {
  /** The operation's name. */
  readonly op: "clampedSwiglu";
  /** The half that goes through the sigmoid; the result replaces it. */
  readonly gate: ValueId;
  /** The half that the gate is multiplied with. */
  readonly up: ValueId;
  /** A float32. */
  readonly limit: number;
}

/** out = the sum of each token's choices, times their weights, best choice first. */
export interface SumExpertsOp {
  /** The operation's name. */
  readonly op: "sumExperts";
  /** A row for each choice. */
  readonly y: ValueId;
  /** Who chose what. */
  readonly routing: ValueId;
  /** How many experts there are, and how many are chosen. */
  readonly shape: RoutingShape;
  /** What is written: a row for each token. */
  readonly out: ValueId;
}

/** Any operation. */
export type Op =
  | EmbedOp
  | TakeRowsOp
  | RmsNormOp
  | LayerNormOp
  | MatmulOp
  | AddBiasOp
  | AddOp
  | SiluMultiplyOp
  | GeluTanhMultiplyOp
  | ScaleOp
  | SoftcapOp
  | GeluOp
  | RopeOp
  | WriteKvOp
  | AttentionOp
  | SummarizeRowsOp
  | RouteOp
  | TakeChoicesOp
  | ExpertMatmulOp
  | AddExpertBiasOp
  | ClampedSwigluOp
  | SumExpertsOp;

/**
 * How processing elements share an operation, and the part of an operand that each one touches:
 * a run of rows, a run of columns, every n-th (row, KV head) unit, the whole value (read by all),
 * or a copy of its own.
 */
export type Split = "rows" | "columns" | "units" | "all" | "private";

/** A value, or the KV blocks of a layer, as dependency tracking knows them. */
export type Resource = ValueId | `kv${number}`;

/** One operand: what is touched, and which part of it each processing element touches. */
export interface Access {
  readonly resource: Resource;
  readonly split: Split;
}

/** How an operation's work is shared, and what that makes it read and write. */
export interface OpShape {
  readonly split: Split;
  readonly reads: readonly Access[];
  readonly writes: readonly Access[];
}

/** The shape rule of every operation. */
export function opShape(op: Op): OpShape {
  const access = (resource: Resource, split: Split): Access => ({ resource, split });
  switch (op.op) {
    case "embed":
      return { split: "rows", reads: [], writes: [access(op.out, "rows")] };
    case "takeRows":
      return { split: "rows", reads: [access(op.x, "all")], writes: [access(op.out, "rows")] };
    case "rmsNorm": {
      // A norm over whole rows is so cheap beside the matmul that reads it that every element
      // computes its own copy: that saves a barrier.
      const split = op.groups === 1 && op.out !== op.x ? "private" : "rows";
      const read = split === "private" ? "all" : "rows";
      return { split, reads: [access(op.x, read)], writes: [access(op.out, split)] };
    }
    case "layerNorm":
      // In place: the row is the residual stream too, which all elements share.
      return { split: "rows", reads: [], writes: [access(op.x, "rows")] };
    case "matmul":
      return {
        split: "columns",
        reads: [access(op.x, "all")],
        writes: [access(op.out, "columns")],
      };
    case "addBias":
      return { split: "columns", reads: [], writes: [access(op.x, "columns")] };
    case "add":
      return {
        split: "columns",
        reads: [access(op.y, "columns")],
        writes: [access(op.x, "columns")],
      };
    case "siluMultiply":
    case "geluTanhMultiply":
    case "clampedSwiglu":
      return {
        split: "columns",
        reads: [access(op.up, "columns")],
        writes: [access(op.gate, "columns")],
      };
    case "gelu":
    case "scale":
    case "softcap":
      return { split: "columns", reads: [], writes: [access(op.x, "columns")] };
    case "rope":
      return { split: "rows", reads: [], writes: [access(op.x, "rows")] };
    case "writeKv":
      return {
        split: "rows",
        reads: [access(op.k, "rows"), access(op.v, "rows")],
        writes: [access(`kv${op.layer}`, "rows")],
      };
    case "attention":
      return {
        split: "units",
        reads: [access(op.q, "all"), access(`kv${op.layer}`, "all")],
        writes: [access(op.out, "units")],
      };
    case "summarizeRows":
      return {
        split: "columns",
        // Chunks of columns are cut elsewhere than a matmul's panels.
        reads: [access(op.x, "all")],
        writes: [access(op.out, "private")],
      };
    case "route":
      // Every element finds all choices by itself: that is less work than to wait for the others.
      return {
        split: "private",
        reads: [access(op.logits, "all")],
        writes: [access(op.out, "private")],
      };
    case "takeChoices":
      return {
        split: "rows",
        reads: [access(op.x, "all"), access(op.routing, "all")],
        writes: [access(op.out, "rows")],
      };
    case "expertMatmul":
      return {
        split: "columns",
        reads: [access(op.x, "all"), access(op.routing, "all")],
        writes: [access(op.out, "columns")],
      };
    case "addExpertBias":
      return {
        split: "columns",
        reads: [access(op.routing, "all")],
        writes: [access(op.x, "columns")],
      };
    case "sumExperts":
      return {
        split: "columns",
        reads: [access(op.y, "columns"), access(op.routing, "all")],
        writes: [access(op.out, "columns")],
      };
    default:
      return op satisfies never;
  }
}
