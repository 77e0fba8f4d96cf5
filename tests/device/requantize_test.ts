/** Rows in another format: exact where the format holds them, within half a step where it does not. */

import { assert, assertEquals } from "@std/assert";
import {
  decodeRow,
  sourceRowBytes,
  WEIGHT_FORMATS,
  type WeightFormat,
} from "../../lib/device/block_formats.ts";
import { expandRows, RowConverter, storeValues } from "../../lib/device/requantize.ts";

import { Random, randomRows, randomSeed } from "./kernel_contract.ts";

const K = 96;
const ROWS = 5;

function values(seed: number, scale = 1): Float32Array {
  let state = seed >>> 0;
  return Float32Array.from({ length: K * ROWS }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.fround((state / 2 ** 31 - 1) * scale);
  });
}

function stored(format: WeightFormat, from: Float32Array): Uint8Array {
  const bytes = new Uint8Array(ROWS * sourceRowBytes(format, K));
  assertEquals(storeValues(format, from, bytes), undefined);
  return bytes;
}

const written = ["f32", "bf16", "f16", "q8_0", "q4_0"] as const;

Deno.test("Expanding rows is decoding them, for every format and alignment", () => {
  const random = new Random(randomSeed());
  for (const format of WEIGHT_FORMATS) {
    const rowBytes = sourceRowBytes(format, K);
    const bytes = randomRows(format, ROWS, K, random);
    for (const shift of [0, 1]) {
      const moved = new Uint8Array(bytes.length + shift).subarray(shift);
      moved.set(bytes);
      const expanded = new Float32Array(K * ROWS);
      expandRows(format, moved, expanded);
      for (let row = 0; row < ROWS; row++) {
        const expected = decodeRow(format, K, bytes.subarray(row * rowBytes, (row + 1) * rowBytes));
        assertEquals(
          expanded.slice(row * K, (row + 1) * K),
          expected,
          `${random}: ${format}, shift ${shift}`,
        );
      }
    }
  }
});

Deno.test("What a format holds exactly comes back exactly, and a second pass changes nothing", () => {
  for (const format of written) {
    const once = new Float32Array(K * ROWS);
    expandRows(format, stored(format, values(11)), once);
    if (format === "q4_0") continue; // its scale is found anew from the rounded values
    const twice = new Float32Array(K * ROWS);
    expandRows(format, stored(format, once), twice);
    const worst = Math.max(...once.map((value, i) => Math.abs(value - (twice[i] as number))));
    assert(worst <= (format === "q8_0" ? 1e-2 : 0), `${format}: ${worst}`);
    if (format === "f32") assertEquals(once, values(11));
  }
});

Deno.test("Rounding stays within half a step of each format", () => {
  const from = values(29);
  const limits = {
    f32: 0,
    bf16: 2 ** -9,
    f16: 2 ** -12,
    q8_0: 0.54 / 127,
    q4_0: 1 / 8,
  } as const;
  for (const format of written) {
    const back = new Float32Array(K * ROWS);
    expandRows(format, stored(format, from), back);
    for (const [i, value] of from.entries()) {
      const off = Math.abs(value - (back[i] as number));
      assert(off <= limits[format] + 1e-7, `${format}: ${value} became ${back[i]}`);
    }
  }
});

Deno.test("A value that a format cannot hold is reported, and only then", () => {
  const large = values(5);
  large[70] = 1e6;
  assertEquals(storeValues("f16", large, new Uint8Array(ROWS * 2 * K)), 1e6);
  assertEquals(storeValues("bf16", large, new Uint8Array(ROWS * 2 * K)), undefined);
  large[70] = Infinity;
  assertEquals(
    storeValues("q8_0", large, new Uint8Array(ROWS * sourceRowBytes("q8_0", K))),
    Infinity,
  );
  large[70] = NaN;
  assertEquals(storeValues("q4_0", large, new Uint8Array(ROWS * sourceRowBytes("q4_0", K))), NaN);
});

Deno.test("A converter turns any number of rows up to its own, and remembers the first bad value", () => {
  const converter = new RowConverter("f32", "f16", K, ROWS);
  const from = values(7);
  const bytes = new Uint8Array(from.buffer);
  assertEquals(converter.convert(bytes.subarray(0, 4 * K * 2), 2).length, 2 * 2 * K);
  assertEquals(converter.badValue, undefined);
  from[3] = 1e5;
  converter.convert(bytes, ROWS);
  assertEquals(converter.badValue, 1e5);
});
