/** The compiled program of one bucket: plain data that can be printed, compared and sent to a thread. */

import type { ActivationType } from "../activations.ts";
import type { Bucket } from "../bucket.ts";
import type { KvCacheLayer, KvPool, PanelWeight } from "../kernel_table.ts";
import type { Router, RoutingShape } from "../routing.ts";
import type { EmbedIds, RowDomain } from "./ops.ts";

/**
 * An activation operand. `address` is where processing element 0 finds it, `copyBytes` how much
 * further each next element finds its own copy (0: all share one).
 */
export interface Operand {
  /** Byte offset in HBM. */
  readonly address: number;
  /** Floats from one row to the next. */
  readonly stride: number;
  /** Floats in a row. */
  readonly width: number;
  /** Bytes from one processing element's own copy to the next; 0: all share one. */
  readonly copyBytes: number;
}

/** Which rows a command works on. */
export interface OnRows {
  /** What there is a row for: each token, output or hidden state that is wanted, or choice of an expert. */
  readonly rows: RowDomain;
}

/** A command on what tokens go to which experts. */
export interface OnChoices extends OnRows, RoutingShape {
  /** Who chose what. */
  readonly routing: Operand;
}

/** One instruction. Row counts are not in it: they come with each step. */
export type Command =
  | { readonly op: "barrier" }
  | (OnRows & {
    readonly op: "embed";
    readonly ids: EmbedIds;
    readonly weight: PanelWeight;
    readonly out: Operand;
  })
  | (OnRows & { readonly op: "takeRows"; readonly x: Operand; readonly out: Operand })
  | (OnRows & {
    readonly op: "rmsNorm";
    readonly x: Operand;
    readonly weight: number;
    readonly epsilon: number;
    readonly groups: number;
    readonly isPrivate: boolean;
    readonly out: Operand;
  })
  | (OnRows & {
    readonly op: "layerNorm";
    readonly x: Operand;
    readonly weight: number;
    readonly bias: number;
    readonly epsilon: number;
  })
  | (OnRows & {
    readonly op: "matmul";
    readonly x: Operand;
    readonly weight: PanelWeight;
    readonly activations: ActivationType;
    readonly out: Operand;
  })
  | (OnRows & { readonly op: "addBias"; readonly x: Operand; readonly bias: number })
  | (OnRows & { readonly op: "add"; readonly x: Operand; readonly y: Operand })
  | (OnRows & { readonly op: "siluMultiply"; readonly gate: Operand; readonly up: Operand })
  | (OnRows & { readonly op: "geluTanhMultiply"; readonly gate: Operand; readonly up: Operand })
  | (OnRows & { readonly op: "scale"; readonly x: Operand; readonly factor: number })
  | (OnRows & { readonly op: "softcap"; readonly x: Operand; readonly cap: number })
  | (OnRows & { readonly op: "gelu"; readonly x: Operand })
  | (OnRows & {
    readonly op: "rope";
    readonly x: Operand;
    readonly heads: number;
    readonly rotaryDim: number;
    readonly table: number;
  })
  | (OnRows & {
    readonly op: "writeKv";
    readonly k: Operand;
    readonly v: Operand;
    readonly pool: KvPool;
    readonly cache: KvCacheLayer;
  })
  | (OnRows & {
    readonly op: "attention";
    readonly q: Operand;
    readonly heads: number;
    readonly scale: number;
    readonly window: number;
    readonly softcap: number;
    /** Address of a score for each head; null: none. */
    readonly sinks: number | null;
    readonly sees: "past" | "all";
    readonly pool: KvPool;
    readonly cache: KvCacheLayer;
    readonly out: Operand;
  })
  | (OnRows & { readonly op: "summarizeRows"; readonly x: Operand; readonly out: Operand })
  | (OnRows & RoutingShape & {
    readonly op: "route";
    readonly logits: Operand;
    readonly router: Router;
    /** Address of a float32 for each expert; null: none. */
    readonly bias: number | null;
    readonly out: Operand;
  })
  | (OnChoices & { readonly op: "takeChoices"; readonly x: Operand; readonly out: Operand })
  | (OnChoices & {
    readonly op: "expertMatmul";
    readonly x: Operand;
    /** Of the first expert; the others follow it. */
    readonly weight: PanelWeight;
    readonly activations: ActivationType;
    readonly out: Operand;
  })
  | (OnChoices & { readonly op: "addExpertBias"; readonly x: Operand; readonly bias: number })
  | (OnRows & {
    readonly op: "clampedSwiglu";
    readonly gate: Operand;
    readonly up: Operand;
    readonly limit: number;
  })
  | (OnChoices & { readonly op: "sumExperts"; readonly y: Operand; readonly out: Operand });

/** Where a step's int32 inputs go. */
export interface WireInputs {
  /** Token ids. */
  readonly tokenIds: number;
  /** Position of each row's token in its sequence. */
  readonly positions: number;
  /** Where each row's key and value go: block · 16 + offset. */
  readonly slots: number;
  /** Index of each row's sequence. */
  readonly sequences: number;
  /** Rows whose output is wanted, ascending. */
  readonly outputRows: number;
  /** What is wanted of each output row's summary. */
  readonly summaryNeeds: number;
  /** Rows whose hidden state is wanted, ascending. null, here and below: the program reads none. */
  readonly hiddenRows: number | null;
  /** Token type of each row's token. */
  readonly tokenTypes: number | null;
  /** Position of the last token of each row's sequence. */
  readonly lastPositions: number | null;
  /** As `slots`, of layers with a window. */
  readonly windowSlots: number | null;
  /** Block ids, sequence by sequence. */
  readonly blockTables: number;
  /** The same of layers with a window. */
  readonly windowBlockTables: number | null;
  /** Block ids a sequence has room for. */
  readonly blockTableStride: number;
}

/** A compiled program. */
export interface Wire {
  /** Names graph and bucket: equal keys mean equal wires on one device. */
  readonly key: string;
  /** The shape it is compiled for. */
  readonly bucket: Bucket;
  /** Rows of logits that fit. */
  readonly outputCount: number;
  /** Where a step's inputs go. */
  readonly inputs: WireInputs;
  /** The instructions, in order. */
  readonly commands: readonly Command[];
  /** Where the outputs come out, if there are any. */
  readonly output: Operand | null;
  /** Where the hidden states come out, if there are any. */
  readonly hidden: Operand | null;
  /** Where the processing elements' partial summaries of the rows come out, if there are any. */
  readonly summary: Operand | null;
  /** Experts that each token goes to; 0: there are none. */
  readonly choiceCount: number;
}

const hex = (address: number) => `0x${address.toString(16)}`;
const operand = (x: Operand) =>
  `${hex(x.address)}[${x.width}/${x.stride}${x.copyBytes > 0 ? `+${x.copyBytes}` : ""}]`;
const matrix = (w: PanelWeight) => `${w.format}${hex(w.address)}[${w.n}x${w.k}]`;
const cache = (c: KvCacheLayer) =>
  `${c.dtype}${hex(c.keys)},${hex(c.values)}[${c.kvHeads}x${c.headDim}]`;

const expertsText = ({ choiceCount, expertCount }: RoutingShape) =>
  `${choiceCount} of ${expertCount}`;
const routerText = (router: Router) =>
  `${router.kind}${router.normalizes ? " normalized" : ""}${
    router.kind === "sigmoid" ? ` scale=${router.scale}` : ""
  }`;

const poolText = (pool: KvPool) => pool === "global" ? "" : ` pool=${pool}`;

function commandText(command: Command): string {
  switch (command.op) {
    case "barrier":
      return "barrier";
    case "embed":
      return `embed ${operand(command.out)} <- ${matrix(command.weight)}${
        command.ids === "tokenIds" ? "" : ` ${command.ids}`
      }`;
    case "takeRows":
      return `takeRows ${operand(command.out)} <- ${operand(command.x)}`;
    case "rmsNorm":
      return `rmsNorm ${operand(command.out)} <- ${operand(command.x)} ${hex(command.weight)} ` +
        `groups=${command.groups} epsilon=${command.epsilon}${command.isPrivate ? " private" : ""}`;
    case "layerNorm":
      return `layerNorm ${operand(command.x)} ${hex(command.weight)} ${hex(command.bias)} ` +
        `epsilon=${command.epsilon}`;
    case "matmul":
      return `matmul ${operand(command.out)} <- ${operand(command.x)} ${matrix(command.weight)}${
        command.activations === "f32" ? "" : ` ${command.activations}`
      }`;
    case "addBias":
      return `addBias ${operand(command.x)} += ${hex(command.bias)}`;
    case "add":
      return `add ${operand(command.x)} += ${operand(command.y)}`;
    case "siluMultiply":
    case "geluTanhMultiply":
      return `${command.op} ${operand(command.gate)} *= ${operand(command.up)}`;
    case "scale":
      return `scale ${operand(command.x)} *= ${command.factor}`;
    case "softcap":
      return `softcap ${operand(command.x)} cap=${command.cap}`;
    case "gelu":
      return `gelu ${operand(command.x)}`;
    case "rope":
      return `rope ${operand(command.x)} heads=${command.heads} rotary=${command.rotaryDim} ${
        hex(command.table)
      }`;
    case "writeKv":
      return `writeKv ${cache(command.cache)} <- ${operand(command.k)} ${operand(command.v)}${
        poolText(command.pool)
      }`;
    case "attention":
      return `attention ${operand(command.out)} <- ${operand(command.q)} ${cache(command.cache)} ` +
        `heads=${command.heads} window=${command.window}${
          command.softcap === 0 ? "" : ` softcap=${command.softcap}`
        }${command.sinks === null ? "" : ` sinks=${hex(command.sinks)}`}${
          command.sees === "past" ? "" : ` sees=${command.sees}`
        }${poolText(command.pool)}`;
    case "summarizeRows":
      return `summarizeRows ${operand(command.out)} <- ${operand(command.x)}`;
    case "route":
      return `route ${operand(command.out)} <- ${operand(command.logits)} ${expertsText(command)} ${
        routerText(command.router)
      }${command.bias === null ? "" : ` bias=${hex(command.bias)}`}`;
    case "takeChoices":
      return `takeChoices ${operand(command.out)} <- ${operand(command.x)} ${
        operand(command.routing)
      }`;
    case "expertMatmul":
      return `expertMatmul ${operand(command.out)} <- ${operand(command.x)} ${
        matrix(command.weight)
      } ${expertsText(command)} ${operand(command.routing)}${
        command.activations === "f32" ? "" : ` ${command.activations}`
      }`;
    case "addExpertBias":
      return `addExpertBias ${operand(command.x)} += ${hex(command.bias)} ${
        operand(command.routing)
      }`;
    case "clampedSwiglu":
      return `clampedSwiglu ${operand(command.gate)} *= ${
        operand(command.up)
      } limit=${command.limit}`;
    case "sumExperts":
      return `sumExperts ${operand(command.out)} <- ${operand(command.y)} ${
        operand(command.routing)
      }`;
    default:
      return command satisfies never;
  }
}

/** The wire as text, one command a line. */
export function wireText(wire: Wire): string {
  const { kind, batchSize, attentionSize, tokenCount } = wire.bucket;
  const lines = wire.commands.map((command) =>
    command.op === "barrier" ? "barrier" : `  ${commandText(command)} ${command.rows}`
  );
  return [
    `wire ${kind} batch=${batchSize} attention=${attentionSize} tokens=${tokenCount} outputs=${wire.outputCount}`,
    ...lines,
    "",
  ].join("\n");
}
