/**
 * What compressed-tensors' config says of each matrix, and whether the matrix is stored so.
 *
 * How a matrix is read follows from its own tensors. What the config says beside that must agree:
 * where it does not, one of the two is damaged, and nobody can know which.
 */

import type { Fields } from "./fields.ts";
import { type ModulePattern, modulePattern } from "./module_pattern.ts";
import { readBlock, type ScaleBlock } from "./scale_block.ts";
import type { GridShape } from "./scale_grid.ts";

/** How the codes of a matrix are stored. */
export type CodeStorage = "F8_E4M3" | "F8_E5M2" | "I8" | "U8" | "packed I32" | "NVFP4" | "MXFP4";

/** Which rows and columns share a scale. */
type Strategy = "tensor" | "channel" | "group" | "block";

/** What a group of the config says of its weights. undefined: it does not say. */
export interface WeightScheme {
  /** Where it stands, for messages: "quantization_config.config_groups.group_0.weights". */
  readonly place: string;
  readonly format: string | undefined;
  readonly bits: number | undefined;
  readonly type: "int" | "float" | undefined;
  readonly strategy: Strategy | undefined;
  readonly groupSize: number | undefined;
  readonly block: ScaleBlock | undefined;
  readonly isSymmetric: boolean | undefined;
}

/** Which modules a group is for. */
interface TargetGroup {
  readonly place: string;
  readonly targets: readonly ModulePattern[];
  /** undefined: its weights stay as they are. */
  readonly scheme: WeightScheme | undefined;
}

/** The whole setting. */
export interface CompressedTensors {
  readonly method: "compressed-tensors";
  /** undefined: the config does not say what is quantised, and how. */
  readonly groups: readonly TargetGroup[] | undefined;
  readonly ignored: readonly ModulePattern[];
}

/** compressed-tensors' formats, and how each stores codes. "mixed-precision": the groups say it. */
const STORAGES: ReadonlyMap<string, readonly CodeStorage[] | undefined> = new Map([
  ["float-quantized", ["F8_E4M3", "MXFP4"]], // the latter by AutoRound, before it had a name
  ["int-quantized", ["I8"]],
  ["naive-quantized", ["F8_E4M3", "I8"]],
  ["pack-quantized", ["packed I32"]],
  ["nvfp4-pack-quantized", ["NVFP4"]],
  ["mxfp4-pack-quantized", ["MXFP4"]],
  ["dense", []],
  ["mixed-precision", undefined],
]);

/**
 * Of checkpoints with codes. Tools of the first versions, and those that write the setting by hand,
 * leave "frozen" in it; a matrix that has no codes is refused all the same.
 */
const STATUSES: readonly string[] = ["compressed", "frozen"];

/** Reads the setting; refuses what cannot be read. */
export function readCompressedTensors(fields: Fields): CompressedTensors {
  const format = readFormat(fields);
  const status = fields.optionalString("quantization_status");
  if (status !== undefined && !STATUSES.includes(status)) {
    fields.fail(
      "quantization_status",
      `it must be ${STATUSES.map((each) => `"${each}"`).join(" or ")}: codes must be stored`,
    );
  }
  const sparsity = fields.object("sparsity_config")?.optionalString("format");
  if (sparsity !== undefined && sparsity !== "dense") {
    fields.object("sparsity_config")?.fail("format", 'it must be "dense"');
  }
  const transforms = fields.object("transform_config")?.object("config_groups");
  if (transforms !== undefined) {
    fields.fail("transform_config", "weights that were rotated cannot be read");
  }
  const groups = fields.object("config_groups");
  return {
    method: "compressed-tensors",
    groups: groups?.keys().flatMap((name) => {
      const group = groups.object(name);
      return group === undefined ? [] : readGroup(groups.nameOf(name), group, format);
    }),
    ignored: readPatterns(fields, "ignore"),
  };
}

function readGroup(place: string, group: Fields, outer: string | undefined): TargetGroup {
  const format = readFormat(group) ?? (outer === "mixed-precision" ? undefined : outer);
  const targets = readPatterns(group, "targets");
  if (targets.length === 0) group.fail("targets", "it must name what the group is for");
  const weights = group.object("weights");
  const scheme = weights && readScheme(group.nameOf("weights"), weights, format);
  return { place, targets, scheme };
}

function readFormat(fields: Fields): string | undefined {
  const format = fields.optionalString("format");
  if (format !== undefined && !STORAGES.has(format)) {
    fields.fail("format", `the supported formats are ${[...STORAGES.keys()].join(", ")}`);
  }
  return format;
}

function readPatterns(fields: Fields, key: string): ModulePattern[] {
  const value = fields.value(key);
  if (value === undefined) return [];
  if (!Array.isArray(value) || !value.every((item) => typeof item === "string")) {
    fields.fail(key, 'it must be a list of module names, classes, or patterns after "re:"');
  }
  return value.map((text: string) =>
    modulePattern(text) ??
      fields.fail(key, `${JSON.stringify(text)} is no pattern that can be searched for`)
  );
}

const STRATEGIES: ReadonlyMap<string, Strategy> = new Map([
  ["tensor", "tensor"],
  ["channel", "channel"],
  ["group", "group"],
  ["tensor_group", "group"], // with one more scale for the whole tensor
  ["block", "block"],
]);

function readScheme(place: string, weights: Fields, format: string | undefined): WeightScheme {
  const type = weights.optionalString("type");
  if (type !== undefined && type !== "int" && type !== "float") {
    weights.fail("type", 'it must be "int" or "float"');
  }
  if (weights.boolean("dynamic", false)) {
    weights.fail("dynamic", "it must be false: the scales of weights are stored");
  }
  refuseOrder(weights);
  const isSymmetric = weights.value("symmetric") === undefined
    ? undefined
    : weights.boolean("symmetric", true);
  if (type === "float" && isSymmetric === false) {
    weights.fail("symmetric", "it must be true: weights that are floats have no zero points");
  }
  return {
    place,
    format,
    bits: weights.optionalInteger("num_bits", { min: 1, max: 32 }),
    type,
    isSymmetric,
    ...readScaling(weights),
  };
}

/** Order in which columns were quantised. Where only that was changed, they lie as they should. */
function refuseOrder(weights: Fields): void {
  const order = weights.value("actorder");
  if (order === undefined || order === false || order === "weight" || order === "static") return;
  weights.fail(
    "actorder",
    "groups of columns that are not neighbours cannot be read: it must be null or " +
      '"weight" (its other name is "static")',
  );
}

function readScaling(
  weights: Fields,
): Pick<WeightScheme, "strategy" | "groupSize" | "block"> {
  const name = weights.optionalString("strategy");
  const strategy = STRATEGIES.get(name ?? "");
  if (name !== undefined && strategy === undefined) {
    weights.fail("strategy", `of weights it must be ${[...STRATEGIES.keys()].join(", ")}`);
  }
  const size = weights.optionalInteger("group_size", { min: -1 });
  if (size === 0) weights.fail("group_size", "it must be at least 1, or −1 for whole rows");
  const block = readBlock(weights, "block_structure");
  if (block !== undefined && strategy !== "block" && strategy !== undefined) {
    weights.fail("block_structure", `strategy is "${name}", so it must be null`);
  }
  if (block === undefined && strategy === "block") {
    weights.fail("block_structure", 'strategy is "block", so it must be the rows and columns');
  }
  const groupSize = size === -1 ? undefined : size;
  if (groupSize !== undefined && strategy !== "group" && strategy !== undefined) {
    weights.fail("group_size", `strategy is "${name}", so it must be null`);
  }
  if (size === undefined && strategy === "group") {
    weights.fail("group_size", `strategy is "${name}", so it must be the columns of a group`);
  }
  // A group of −1 columns is a whole row.
  return { strategy: size === -1 ? "channel" : strategy, groupSize, block };
}

/** What the config says of one module. */
export type Statement =
  | { readonly kind: "quantized"; readonly scheme: WeightScheme }
  /** It stays as it is; `why` says by which part of the config. */
  | { readonly kind: "plain"; readonly why: string };

/**
 * `names` are the module's names: the file's own, and the one of the model's class. undefined: the
 * config says nothing.
 */
export function statementOf(
  { groups, ignored }: CompressedTensors,
  names: readonly string[],
  className: "Linear" | "Embedding",
): Statement | undefined {
  const skip = ignored.find((pattern) => pattern.matches(names) || pattern.text === className);
  if (skip !== undefined) return { kind: "plain", why: `ignore has "${skip.text}"` };
  if (groups === undefined) return undefined;
  // A module's own name counts before its class.
  const group = groups.find(({ targets }) => targets.some((target) => target.matches(names))) ??
    groups.find(({ targets }) => targets.some(({ text }) => text === className));
  if (group === undefined) return { kind: "plain", why: "no group of config_groups targets it" };
  return group.scheme === undefined
    ? { kind: "plain", why: `${group.place} has no weights` }
    : { kind: "quantized", scheme: group.scheme };
}

/** A matrix [rows, columns] as it is stored. */
export interface StoredMatrix {
  readonly storage: CodeStorage;
  /** Bits a code; undefined where the type has room for more than there need be. */
  readonly bits: number | undefined;
  readonly rows: number;
  readonly columns: number;
  /** undefined: it has no scales. */
  readonly grid: GridShape | undefined;
  readonly hasZeroPoints: boolean;
}

/** What the config says that is not so, as a clause for messages; undefined where all agrees. */
export function disagreement(scheme: WeightScheme, matrix: StoredMatrix): string | undefined {
  const { place, format, bits, type, isSymmetric } = scheme;
  const { storage, grid, hasZeroPoints } = matrix;
  const says = (key: string, value: unknown, found: string) =>
    `${place}.${key} of config.json is ${JSON.stringify(value)}, but ${found}`;
  const storages = format === undefined ? undefined : STORAGES.get(format);
  if (storages !== undefined && !storages.includes(storage)) {
    return `the format of ${place} in config.json is "${format}", but it is stored as ${storage}`;
  }
  const isFloat = storage !== "I8" && storage !== "U8" && storage !== "packed I32";
  if (type !== undefined && (type === "float") !== isFloat) {
    return says("type", type, `it is stored as ${storage}`);
  }
  if (bits !== undefined && (matrix.bits === undefined ? bits > 8 : bits !== matrix.bits)) {
    return says("num_bits", bits, `it is stored with ${matrix.bits ?? 8} bits`);
  }
  if (isSymmetric === true && hasZeroPoints) return says("symmetric", true, "it has zero points");
  if (isSymmetric === false && !hasZeroPoints) {
    return says("symmetric", false, "its zero points are missing");
  }
  return grid && scalesDisagree(scheme, matrix, grid, says);
}

function scalesDisagree(
  { strategy, groupSize, block }: WeightScheme,
  { rows, columns }: StoredMatrix,
  { rowBlock, columnBlock }: GridShape,
  says: (key: string, value: unknown, found: string) => string,
): string | undefined {
  const found = `it has a scale for each [${rowBlock}, ${columnBlock}] of [${rows}, ${columns}]`;
  const is = (rowCount: number, columnCount: number) =>
    Math.min(rowBlock, rows) === Math.min(rowCount, rows) &&
    Math.min(columnBlock, columns) === Math.min(columnCount, columns);
  if (strategy === "tensor" && !is(rows, columns)) return says("strategy", "tensor", found);
  if (strategy === "channel" && !is(1, columns)) return says("strategy", "channel", found);
  if (groupSize !== undefined && !is(1, groupSize)) return says("group_size", groupSize, found);
  if (block !== undefined && !is(block.rows, block.columns)) {
    return says("block_structure", [block.rows, block.columns], found);
  }
  return undefined;
}
