/** block_formats: what is packed reads back as the checkpoint format defines it. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  blockElements,
  decodeRow,
  packPanel,
  panelBytes,
  sourceRowBytes,
  unpackPanel,
  WEIGHT_FORMATS,
  weightBytes,
  type WeightFormat,
} from "../../lib/device/block_formats.ts";
import { bf16ToF32, f16ToF32 } from "../../lib/device/dtype.ts";
import { Random, randomRows, randomSeed } from "./kernel_contract.ts";
import gguf from "../golden/gguf.json" with { type: "json" };

Deno.test("A packed panel unpacks to what its rows decode to, at any row count and alignment", () => {
  const random = new Random(randomSeed());
  for (const format of WEIGHT_FORMATS) {
    for (const k of blockElements(format) === 1 ? [8, 24, 56, 64] : [32, 96, 576]) {
      for (let rowCount = 1; rowCount <= 8; rowCount++) {
        const rowBytes = sourceRowBytes(format, k);
        const shift = random.integer(0, 5);
        const source = new Uint8Array(shift + rowCount * rowBytes).subarray(shift);
        source.set(randomRows(format, rowCount, k, random));
        const shared = new SharedArrayBuffer(32 + panelBytes(format, k) + 16);
        const target = new Uint8Array(shared, 32, panelBytes(format, k));
        new Uint8Array(shared).fill(0xa5);
        packPanel(format, k, source, rowCount, target);
        const what = `${random}: ${format} k ${k} rows ${rowCount} shift ${shift}`;
        const values = unpackPanel(format, k, target);
        for (let column = 0; column < 8; column++) {
          const expected = column < rowCount
            ? decodeRow(format, k, source.subarray(column * rowBytes, (column + 1) * rowBytes))
            : new Float32Array(k);
          for (let i = 0; i < k; i++) {
            const same = Object.is(values[8 * i + column], expected[i]);
            assert(same, `${what} column ${column} element ${i}`);
          }
        }
        assertEquals(
          [...new Uint8Array(shared, 0, 32), ...new Uint8Array(shared, 32 + target.length)],
          new Array(48).fill(0xa5),
          `${what}: bytes around the panel`,
        );
      }
    }
  }
});

Deno.test("decodeRow gives the golden values of GGUF blocks", () => {
  const formats: Record<string, WeightFormat> = { Q4_0: "q4_0", Q4_1: "q4_1", Q8_0: "q8_0" };
  let checked = 0;
  for (const golden of gguf.cases) {
    const format = formats[golden.type];
    if (format === undefined) continue;
    checked++;
    const row = goldenBlocks(golden.type, format);
    const y = decodeRow(format, golden.n, row);
    assertEquals([...y.subarray(0, 4)], golden.first4, golden.type);
    assertEquals(y[17], golden.y17, golden.type);
    assertEquals(y.reduce((sum, value) => sum + value, 0), golden.sum, golden.type);
    const squares = y.reduce((sum, value) => sum + value * value, 0);
    assert(Math.abs(squares - golden.sum_squares) < 1e-6, `${golden.type}: ${squares}`);
    assertEquals(y.reduce((sum, v, i) => sum + (i + 1) * v, 0), golden.sum_weighted, golden.type);
    const panel = new Uint8Array(panelBytes(format, golden.n));
    packPanel(format, golden.n, row, 1, panel);
    const packed = unpackPanel(format, golden.n, panel);
    assertEquals(Array.from(y.keys(), (i) => packed[8 * i]), [...y], golden.type);
  }
  assertEquals(checked, 3);
});

Deno.test("The bytes of a panel lie where the kernels look for them", () => {
  const k = 32;
  const half = new Uint16Array(8 * k).map((_, i) => ((i / k | 0) << 8) | (i % k)); // row, k
  const panel = new Uint8Array(panelBytes("bf16", k));
  packPanel("bf16", k, new Uint8Array(half.buffer), 8, panel);
  const order = [0, 4, 1, 5, 2, 6, 3, 7];
  const halves = new Uint16Array(panel.buffer);
  for (let i = 0; i < k; i++) {
    for (let j = 0; j < 8; j++) assertEquals(halves[8 * i + j], (order[j]! << 8) | i);
  }

  const rows8 = new Uint8Array(8 * 34);
  for (let row = 0; row < 8; row++) {
    rows8[34 * row] = row;
    for (let i = 0; i < 32; i++) rows8[34 * row + 2 + i] = 32 * (row & 3) + i;
  }
  const panel8 = new Uint8Array(panelBytes("q8_0", k));
  packPanel("q8_0", k, rows8, 8, panel8);
  assertEquals([...new Uint16Array(panel8.buffer, 0, 8)], order);
  for (let i = 0; i < 32; i++) {
    for (let column = 0; column < 8; column++) {
      assertEquals(panel8[16 + 32 * (i >> 2) + 4 * column + (i & 3)], 32 * (column & 3) + i);
    }
  }

  // Nibble of row r at element i: (r + i) mod 16.
  const rows4 = new Uint8Array(8 * 18);
  for (let row = 0; row < 8; row++) {
    rows4[18 * row] = row;
    for (let i = 0; i < 16; i++) {
      rows4[18 * row + 2 + i] = ((row + i) & 15) | (((row + i + 16) & 15) << 4);
    }
  }
  const panel4 = new Uint8Array(panelBytes("q4_0", k));
  packPanel("q4_0", k, rows4, 8, panel4);
  assertEquals([...new Uint16Array(panel4.buffer, 0, 8)], order);
  for (let g = 0; g < 8; g++) {
    for (let lane = 0; lane < 4; lane++) {
      for (let u = 0; u < 4; u++) {
        const byte = panel4[16 + 16 * g + 4 * lane + u]!;
        assertEquals(byte & 15, (lane + 4 * g + u) & 15);
        assertEquals(byte >> 4, (lane + 4 + 4 * g + u) & 15);
      }
    }
  }
});

Deno.test("q4_1 rounds its value once to float32", () => {
  const random = new Random(randomSeed());
  const row = randomRows("q4_1", 1, 32, random);
  for (let round = 0; round < 200; round++) {
    const dBits = random.integer(0, 0x7c00);
    const mBits = random.integer(0, 0x7c00) | 0x8000;
    new DataView(row.buffer).setUint16(0, dBits, true);
    new DataView(row.buffer).setUint16(2, mBits, true);
    const y = decodeRow("q4_1", 32, row);
    for (let i = 0; i < 32; i++) {
      const q = BigInt(i < 16 ? row[4 + i]! & 15 : row[4 + i - 16]! >> 4);
      // In units of 2^-24 both terms are whole numbers.
      const whole = (v: number) => BigInt(v * 2 ** 24);
      const exact = whole(f16ToF32(dBits)) * q + whole(f16ToF32(mBits));
      assertEquals(y[i], Math.fround(Number(exact)) * 2 ** -24, `${random}`);
    }
  }
});

Deno.test("Bits of a bfloat16 weight are kept, negative zero and NaN included", () => {
  const bits = Uint16Array.from([0x8000, 0x7fc1, 0xff80, 0x0001, 0x3f80, 0, 0x7f7f, 0x8001]);
  const panel = new Uint8Array(panelBytes("bf16", 8));
  packPanel("bf16", 8, new Uint8Array(bits.buffer), 1, panel);
  assertEquals(Array.from({ length: 8 }, (_, i) => new Uint16Array(panel.buffer)[8 * i]), [
    ...bits,
  ]);
  const values = unpackPanel("bf16", 8, panel);
  for (let i = 0; i < 8; i++) assert(Object.is(values[8 * i], bf16ToF32(bits[i]!)));
});

Deno.test("Sizes are those of the layouts", () => {
  /** Of 64 k: bytes of a row, of a panel, and k stored together. */
  const sizes: Record<WeightFormat, readonly [number, number, number]> = {
    f32: [256, 2048, 1],
    bf16: [128, 1024, 1],
    f16: [128, 1024, 1],
    q8_0: [68, 544, 32],
    q4_0: [36, 288, 32],
    q4_1: [40, 320, 32],
    i8: [72, 576, 32],
    i8_16: [80, 640, 32],
    i8_1: [80, 640, 32],
    e4m3: [72, 576, 32],
    e5m2: [72, 576, 32],
    i4: [40, 320, 32],
    u4_1: [48, 384, 32],
    e2m1: [40, 320, 32],
    e2m1_16: [48, 384, 32],
  };
  assertEquals(Object.keys(sizes), [...WEIGHT_FORMATS]);
  for (const format of WEIGHT_FORMATS) {
    const found = [sourceRowBytes(format, 64), panelBytes(format, 64), blockElements(format)];
    assertEquals(found, [...sizes[format]], format);
  }
  assertEquals(weightBytes("bf16", 9, 64), 2048);
});

Deno.test("Shapes and buffers that do not fit are refused, saying what would", () => {
  const bytes = new Uint8Array(4096);
  assertThrows(() => panelBytes("bf16", 12), RangeError, "it must be a multiple of 8");
  assertThrows(() => panelBytes("q4_0", 40), RangeError, "it must be a multiple of 32");
  assertThrows(() => sourceRowBytes("f32", 0), RangeError, "rows of 0 elements as f32");
  assertThrows(() => packPanel("f32", 8, bytes, 9, bytes), RangeError, "it must be 1 to 8");
  assertThrows(() => packPanel("f32", 8, bytes, 0, bytes), RangeError, "it must be 1 to 8");
  assertThrows(
    () => packPanel("f32", 8, bytes.subarray(0, 40), 2, bytes),
    RangeError,
    "from 40 bytes: there must be 64",
  );
  assertThrows(
    () => packPanel("f32", 8, bytes, 2, bytes.subarray(0, 128)),
    RangeError,
    "there must be 256",
  );
  assertThrows(
    () => packPanel("f32", 8, bytes, 2, bytes.subarray(8)),
    RangeError,
    "it must be a multiple of 16",
  );
  assertThrows(() => unpackPanel("f32", 8, bytes.subarray(0, 9)), RangeError, "it must have 256");
  assertThrows(() => decodeRow("f32", 8, bytes.subarray(0, 9)), RangeError, "it must have 32");
});

/** The bytes that spec'd golden values are computed from: a hash stream with fixed scales. */
function goldenBlocks(type: string, format: WeightFormat): Uint8Array {
  const row = new Uint8Array(sourceRowBytes(format, 64));
  let state = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(`gguf:${type}`)) {
    state = Math.imul(state ^ byte, 0x01000193);
  }
  for (let i = 0; i < row.length; i++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    row[i] = state >>> 24;
  }
  for (let block = 0; block < row.length; block += row.length / 2) {
    row.set([0x00, 0x2c], block);
    if (format === "q4_1") row.set([0x00, 0x34], block + 2);
  }
  return row;
}
