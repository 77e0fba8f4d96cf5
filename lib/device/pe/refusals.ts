/** Which families of fast kernels were found wrong: shared by all elements of a device. */

import { invariant } from "../../base/invariant.ts";
import type { QuantizedFormat, WeightFormat } from "../block_formats.ts";
import type { KvDtype } from "../kernel_table.ts";

/** Kernels that are refused together: one operation on one kind of stored numbers. */
export type KernelFamily =
  | `${"embed" | "matmul"}.${WeightFormat}`
  | `matmul.${QuantizedFormat}.${"i16" | "i8"}`
  | `${"writeKv" | "attention"}.${KvDtype}`
  | "takeRows"
  | "rmsNorm"
  | "layerNorm"
  | "addBias"
  | "add"
  | "siluMultiply"
  | "geluTanhMultiply"
  | "clampedSwiglu"
  | "sumExperts"
  | "scale"
  | "softcap"
  | "gelu"
  | "rope"
  | "summarizeRows";

/** All families; each has its place in shared memory by its place here. */
const FAMILIES: Readonly<Record<KernelFamily, true>> = {
  "embed.f32": true,
  "embed.bf16": true,
  "embed.f16": true,
  "embed.q8_0": true,
  "embed.q4_0": true,
  "embed.q4_1": true,
  "embed.i8": true,
  "embed.i8_16": true,
  "embed.i8_1": true,
  "embed.e4m3": true,
  "embed.e5m2": true,
  "embed.i4": true,
  "embed.u4_1": true,
  "embed.e2m1": true,
  "embed.e2m1_16": true,
  "matmul.f32": true,
  "matmul.bf16": true,
  "matmul.f16": true,
  "matmul.q8_0": true,
  "matmul.q4_0": true,
  "matmul.q4_1": true,
  "matmul.i8": true,
  "matmul.i8_16": true,
  "matmul.i8_1": true,
  "matmul.e4m3": true,
  "matmul.e5m2": true,
  "matmul.i4": true,
  "matmul.u4_1": true,
  "matmul.e2m1": true,
  "matmul.e2m1_16": true,
  "matmul.q8_0.i16": true,
  "matmul.q8_0.i8": true,
  "matmul.q4_0.i16": true,
  "matmul.q4_0.i8": true,
  "matmul.q4_1.i16": true,
  "matmul.q4_1.i8": true,
  "writeKv.f32": true,
  "writeKv.bf16": true,
  "attention.f32": true,
  "attention.bf16": true,
  "takeRows": true,
  "rmsNorm": true,
  "layerNorm": true,
  "addBias": true,
  "add": true,
  "siluMultiply": true,
  "geluTanhMultiply": true,
  "clampedSwiglu": true,
  "sumExperts": true,
  "scale": true,
  "softcap": true,
  "gelu": true,
  "rope": true,
  "summarizeRows": true,
};

const NAMES = Object.keys(FAMILIES) as readonly KernelFamily[];

// One Int32 each, then the number of all refusals; after them the reasons as UTF-8.
const COUNT = NAMES.length;
const CELL_COUNT = NAMES.length + 1;
const REASON_BYTES = 256;

/**
 * The verdicts. What one element refuses, no other uses from its next call on, so that all of them
 * compute an operation in the same way. It outlives the elements: those that replace others keep to
 * it.
 */
export class Refusals {
  readonly buffer: SharedArrayBuffer;
  readonly #cells: Int32Array<SharedArrayBuffer>;

  constructor(buffer?: SharedArrayBuffer) {
    this.buffer = buffer ??
      new SharedArrayBuffer(CELL_COUNT * 4 + NAMES.length * REASON_BYTES);
    this.#cells = new Int32Array(this.buffer, 0, CELL_COUNT);
  }

  /** How many families are refused. */
  get count(): number {
    return Atomics.load(this.#cells, COUNT);
  }

  /** The number under which {@linkcode has} knows a family. */
  indexOf(family: KernelFamily): number {
    const index = NAMES.indexOf(family);
    invariant(index >= 0, `There is no family of kernels "${family}"`);
    return index;
  }

  /** Whether the family with this number is refused. */
  has(index: number): boolean {
    return Atomics.load(this.#cells, index) !== 0;
  }

  /** Refuses a family; the first reason is kept. */
  refuse(index: number, reason: string): void {
    if (Atomics.compareExchange(this.#cells, index, 0, 1) !== 0) return;
    new TextEncoder().encodeInto(reason, this.#reason(index));
    Atomics.add(this.#cells, COUNT, 1);
  }

  /** `matmul.bf16: …` for every family that is refused. Complete between two commands. */
  list(): string[] {
    return NAMES.flatMap((family, index) => {
      if (!this.has(index)) return [];
      const bytes = this.#reason(index).slice(); // a decoder takes no shared memory
      const end = bytes.indexOf(0);
      const reason = new TextDecoder().decode(bytes.subarray(0, end < 0 ? bytes.length : end));
      return [`${family}: ${reason}`];
    });
  }

  #reason(index: number): Uint8Array<SharedArrayBuffer> {
    return new Uint8Array(this.buffer, CELL_COUNT * 4 + index * REASON_BYTES, REASON_BYTES);
  }
}
