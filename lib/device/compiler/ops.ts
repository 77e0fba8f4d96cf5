/** The instruction set: every operation a graph can hold, what it reads and writes, and how its work splits. */

/** Number of a value in its graph: activations [rows, width] in float32. */
export type ValueId = number;

/** Whether a value has a row for each token of the step, or one for each row whose logits are wanted. */
export type RowDomain = "tokens" | "outputs";

/** out = weight rows of the step's token ids. */
export interface EmbedOp {
  readonly op: "embed";
  readonly weight: string;
  readonly out: ValueId;
}

/** out = the rows of x that the step wants logits for. */
export interface TakeRowsOp {
  readonly op: "takeRows";
  readonly x: ValueId;
  readonly out: ValueId;
}

/** out = x / rms(x) · weight, for each of `groups` runs of a row. out may be x. */
export interface RmsNormOp {
  readonly op: "rmsNorm";
  readonly x: ValueId;
  readonly weight: string;
  readonly epsilon: number;
  readonly groups: number;
  readonly out: ValueId;
}

/** out = x · weightᵀ. */
export interface MatmulOp {
  readonly op: "matmul";
  readonly x: ValueId;
  readonly weight: string;
  readonly out: ValueId;
}

/** x += bias, in place. */
export interface AddBiasOp {
  readonly op: "addBias";
  readonly x: ValueId;
  readonly bias: string;
}

/** x += y, in place. */
export interface AddOp {
  readonly op: "add";
  readonly x: ValueId;
  readonly y: ValueId;
}

/** gate = silu(gate) · up, in place. */
export interface SiluMultiplyOp {
  readonly op: "siluMultiply";
  readonly gate: ValueId;
  readonly up: ValueId;
}

/** Rotates x by position, in place. */
export interface RopeOp {
  readonly op: "rope";
  readonly x: ValueId;
  readonly heads: number;
  readonly table: string;
}

/** Stores k and v in the layer's KV blocks. */
export interface WriteKvOp {
  readonly op: "writeKv";
  readonly k: ValueId;
  readonly v: ValueId;
  readonly layer: number;
}

/** out = attention of q over the layer's KV blocks. */
export interface AttentionOp {
  readonly op: "attention";
  readonly q: ValueId;
  readonly layer: number;
  readonly heads: number;
  readonly scale: number;
  /** Keys a query sees, itself included; 0: all. */
  readonly window: number;
  readonly out: ValueId;
}

/** Any operation. */
export type Op =
  | EmbedOp
  | TakeRowsOp
  | RmsNormOp
  | MatmulOp
  | AddBiasOp
  | AddOp
  | SiluMultiplyOp
  | RopeOp
  | WriteKvOp
  | AttentionOp;

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
      return {
        split: "columns",
        reads: [access(op.up, "columns")],
        writes: [access(op.gate, "columns")],
      };
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
    default:
      return op satisfies never;
  }
}
