/** Rows by index: of a weight (embedding) and of a matrix of activations. */

import { call, doWhile, type FunctionRef, increment, ModuleBuilder, setI32 } from "./assembler.ts";
import { panelBytes, type WeightFormat } from "../block_formats.ts";
import { CLASS_COUNT, defineExpand, EXPANDED_ROW_BYTES, expandedBytes } from "./expand.ts";
import { f32, i32, memoryCopy } from "./instructions.ts";

/** (weight, ids, out, outStrideBytes, rowCount, expanded): `expanded` is room for one panel. */
export type Embed = (
  weight: number,
  ids: number,
  out: number,
  outStrideBytes: number,
  rowCount: number,
  expanded: number,
) => void;

/** (x, xStrideBytes, indices, widthBytes, out, outStrideBytes, rowCount) */
export type TakeRows = (
  x: number,
  xStrideBytes: number,
  indices: number,
  widthBytes: number,
  out: number,
  outStrideBytes: number,
  rowCount: number,
) => void;

/** Bytes of scratch that an embedding of k floats needs. */
export function embedScratchBytes(k: number): number {
  return expandedBytes(k);
}

/**
 * Compiles the embedding. It expands the whole panel of an id and picks one column: expanding eight
 * columns in vectors takes no longer than decoding one by itself, and decoding stays in one place.
 */
export function compileEmbed(
  memory: WebAssembly.Memory,
  format: WeightFormat,
  k: number,
): Embed {
  const module = new ModuleBuilder();
  const embed = defineEmbed(module, format, k);
  return module.link(memory).get(embed);
}

function defineEmbed(module: ModuleBuilder, format: WeightFormat, k: number): FunctionRef {
  const expand = defineExpand(module, format, k);
  const params = ["i32", "i32", "i32", "i32", "i32", "i32"] as const;
  return module.define("embed", params, "none", (
    scope,
    weight,
    ids,
    out,
    outStride,
    rowCount,
    expanded,
  ) => {
    const id = scope.local("i32");
    const column = scope.local("i32");
    const outAt = scope.local("i32");
    const outEnd = scope.local("i32");
    const classBytes = expandedBytes(k / CLASS_COUNT);
    const copyClass = (_: unknown, c: number) =>
      f32.store(outAt, f32.load(column, c * classBytes), 4 * c);
    return [
      doWhile(
        rowCount,
        setI32(id, i32.load(ids)),
        call(
          expand,
          i32.add(weight, i32.mul(i32.shrU(id, 3), panelBytes(format, k))),
          expanded,
        ),
        setI32(column, i32.add(expanded, i32.shl(i32.and(id, 7), 2))),
        setI32(outAt, out),
        setI32(outEnd, i32.add(out, 4 * k)),
        doWhile(
          i32.ne(outAt, outEnd),
          Array.from({ length: CLASS_COUNT }, copyClass),
          increment(column, EXPANDED_ROW_BYTES),
          increment(outAt, 4 * CLASS_COUNT),
        ),
        increment(ids, 4),
        increment(out, outStride),
        increment(rowCount, -1),
      ),
    ];
  });
}

/** Compiles the copying of rows; no shape is baked in. */
export function compileTakeRows(memory: WebAssembly.Memory): TakeRows {
  const module = new ModuleBuilder();
  const params = ["i32", "i32", "i32", "i32", "i32", "i32", "i32"] as const;
  const takeRows = module.define("takeRows", params, "none", (
    _scope,
    x,
    xStride,
    indices,
    widthBytes,
    out,
    outStride,
    rowCount,
  ) => [
    doWhile(
      rowCount,
      memoryCopy(out, i32.add(x, i32.mul(i32.load(indices), xStride)), widthBytes),
      increment(indices, 4),
      increment(out, outStride),
      increment(rowCount, -1),
    ),
  ]);
  return module.link(memory).get(takeRows);
}
