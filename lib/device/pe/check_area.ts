/** The memory in which an element checks its kernels, and the numbers that it checks them with. */

import { invariant } from "../../base/invariant.ts";
import {
  blockElements,
  packPanel,
  PANEL_COLUMNS,
  panelBytes,
  QUANT_BLOCK,
  sourceRowBytes,
  type WeightFormat,
} from "../block_formats.ts";
import { GROUPED, type GroupedFormat, headerWords, isGrouped } from "../grouped_blocks.ts";
import { f32ArrayToBf16, f32ArrayToF16, f32ToF16 } from "../dtype.ts";
import type { KernelLimits, KvCacheLayer, PanelWeight } from "../kernel_table.ts";

/** Rows of a matmul that are checked together; more are multiplied so many at a time. */
export const CHECK_ROWS_MAX = 512;

/** Panels that a checked weight has: a kernel must find its way from one to the next. */
export const CHECK_PANELS = 2;

const ALIGNMENT = 64;

/** Bytes that suffice for the problems of every kernel up to these limits. */
export function checkAreaBytes({ kMax, headDimMax, headGroupMax }: KernelLimits): number {
  const weights = CHECK_PANELS * panelBytes("f32", kMax) + 4 * kMax;
  const rows = 4 * kMax * 6 + CHECK_ROWS_MAX * 4 * (4 + CHECK_PANELS * PANEL_COLUMNS);
  const attention = headDimMax * (1024 + 160 * headGroupMax);
  return Math.ceil((weights + rows + attention) / ALIGNMENT) * ALIGNMENT + 16_384;
}

/** Hands out operands, filled with the same numbers again after each {@linkcode reset}. */
export class CheckArea {
  readonly #memory: WebAssembly.Memory;
  readonly #start: number;
  readonly #end: number;
  #next: number;
  #random = 0;

  constructor(
    memory: WebAssembly.Memory,
    region: { readonly address: number; readonly sizeBytes: number },
  ) {
    this.#memory = memory;
    this.#start = region.address;
    this.#end = region.address + region.sizeBytes;
    this.#next = this.#start;
  }

  /** Takes everything back and starts the row of numbers again. */
  reset(): void {
    this.#next = this.#start;
    this.#random = 1;
  }

  /** So many float32 in [−1, 1). */
  floats(count: number): number {
    const address = this.#take(4 * count);
    this.#fill(new Float32Array(this.#memory.buffer, address, count));
    return address;
  }

  /** Room for so many words, which holds NaN until a kernel writes it. */
  output(count: number): number {
    const address = this.#take(4 * count);
    new Float32Array(this.#memory.buffer, address, count).fill(NaN);
    return address;
  }

  /** Room for so many words that are zero. */
  zeros(count: number): number {
    const address = this.#take(4 * count);
    new Int32Array(this.#memory.buffer, address, count).fill(0);
    return address;
  }

  integers(values: readonly number[]): number {
    const address = this.#take(4 * values.length);
    new Int32Array(this.#memory.buffer, address, values.length).set(values);
    return address;
  }

  /** A weight of {@linkcode CHECK_PANELS} panels. */
  weight(format: WeightFormat, k: number): PanelWeight {
    const size = panelBytes(format, k);
    const address = this.#take(CHECK_PANELS * size);
    for (let panel = 0; panel < CHECK_PANELS; panel++) {
      const target = new Uint8Array(this.#memory.buffer, address + panel * size, size);
      packPanel(format, k, this.#sourceRows(format, k), PANEL_COLUMNS, target);
    }
    return { address, format, n: CHECK_PANELS * PANEL_COLUMNS, k };
  }

  /** Fills a pool of keys and values, of either type, with numbers in [−1, 1). */
  fillKv({ keys, values, dtype }: KvCacheLayer, words: number): void {
    for (const address of [keys, values]) {
      if (dtype === "f32") {
        this.#fill(new Float32Array(this.#memory.buffer, address, words));
        continue;
      }
      const floats = new Float32Array(2 * words);
      this.#fill(floats);
      f32ArrayToBf16(floats, new Uint16Array(this.#memory.buffer, address, 2 * words));
    }
  }

  /** A copy of the words at an address, as the bits that they are. */
  words(address: number, count: number): Int32Array<ArrayBuffer> {
    return new Int32Array(this.#memory.buffer, address, count).slice() as Int32Array<ArrayBuffer>;
  }

  #take(sizeBytes: number): number {
    const address = this.#next;
    this.#next += Math.ceil(sizeBytes / ALIGNMENT) * ALIGNMENT;
    invariant(this.#next <= this.#end, `A kernel's check needs ${sizeBytes} bytes more`);
    return address;
  }

  /** Eight rows as a checkpoint would have them. */
  #sourceRows(format: WeightFormat, k: number): Uint8Array {
    const bytes = new Uint8Array(PANEL_COLUMNS * sourceRowBytes(format, k));
    const count = PANEL_COLUMNS * k;
    if (isGrouped(format)) {
      this.#fillGroups(bytes, format);
      return bytes;
    }
    if (blockElements(format) === QUANT_BLOCK) {
      this.#fillBlocks(bytes, sourceRowBytes(format, QUANT_BLOCK), format === "q4_1" ? 2 : 1);
      return bytes;
    }
    const values = new Float32Array(count);
    this.#fill(values);
    if (format === "f32") return new Uint8Array(values.buffer);
    const halves = new Uint16Array(bytes.buffer);
    if (format === "bf16") f32ArrayToBf16(values, halves);
    else f32ArrayToF16(values, halves);
    return bytes;
  }

  /** Blocks: one or two float16 near 2^-6, then quants of any bits. */
  #fillBlocks(bytes: Uint8Array, blockBytes: number, scaleCount: number): void {
    const view = new DataView(bytes.buffer);
    for (let block = 0; block < bytes.length; block += blockBytes) {
      for (let i = 0; i < scaleCount; i++) {
        view.setUint16(block + 2 * i, f32ToF16((1 + this.#float()) / 64), true);
      }
      for (let i = 2 * scaleCount; i < blockBytes; i++) bytes[block + i] = this.#bits() & 255;
    }
  }

  /** Blocks: float32 near 2^-6, then codes of any bits but those of numbers that are not finite. */
  #fillGroups(bytes: Uint8Array, format: GroupedFormat): void {
    const view = new DataView(bytes.buffer);
    const header = headerWords(GROUPED[format]);
    const blockBytes = sourceRowBytes(format, QUANT_BLOCK);
    const { values } = GROUPED[format];
    for (let block = 0; block < bytes.length; block += blockBytes) {
      for (let i = 0; i < header; i++) {
        view.setFloat32(block + 4 * i, (1 + this.#float()) / 64, true);
      }
      for (let i = 4 * header; i < blockBytes; i++) {
        const code = this.#bits() & 255;
        bytes[block + i] = values.length < 256 || Number.isFinite(values[code]) ? code : 0;
      }
    }
  }

  #fill(values: Float32Array): void {
    for (let i = 0; i < values.length; i++) values[i] = this.#float();
  }

  #float(): number {
    return (this.#bits() >> 8) / 2 ** 23;
  }

  /** 32 bits of a Weyl sequence, mixed. */
  #bits(): number {
    this.#random = (this.#random + 0x9e3779b9) | 0;
    const mixed = Math.imul(this.#random ^ (this.#random >>> 16), 0x85ebca6b);
    return Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35) ^ (mixed >>> 16);
  }
}
