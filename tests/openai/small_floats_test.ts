/** Numbers in fewer bits: of all codes the nearest, on every side of every boundary. */

import { assertEquals } from "@std/assert";
import { type NumberFormat, writeNumbers } from "../../lib/openai/small_floats.ts";

function code(value: number, format: NumberFormat, littleEndian = true): number {
  const view = new DataView(new ArrayBuffer(4));
  writeNumbers(view, 0, Float32Array.of(value), { format, littleEndian });
  return format.startsWith("fp8") ? view.getUint8(0) : view.getUint16(0, littleEndian);
}

/** The number of a code of eight bits, by the definition of its format. */
function float8(code: number, mantissaBits: number, bias: number): number {
  const exponent = code >> mantissaBits;
  const mantissa = code % 2 ** mantissaBits / 2 ** mantissaBits;
  return exponent === 0 ? mantissa * 2 ** (1 - bias) : (1 + mantissa) * 2 ** (exponent - bias);
}

const FLOAT8 = [["fp8_e4m3", 3, 7, 0x7e], ["fp8_e5m2", 2, 15, 0x7b]] as const;

Deno.test("A number of eight bits is written as its code, and what lies between as the nearest", () => {
  for (const [format, mantissaBits, bias, largest] of FLOAT8) {
    for (let low = 0; low <= largest; low++) {
      const value = float8(low, mantissaBits, bias);
      assertEquals(code(value, format), low);
      assertEquals(code(-value, format), 0x80 | low);
      if (low === largest) continue;
      const next = float8(low + 1, mantissaBits, bias);
      const middle = (value + next) / 2; // exact in float32, as are its neighbours
      const step = (next - value) / 64;
      assertEquals(code(middle - step, format), low);
      assertEquals(code(middle + step, format), low + 1);
      assertEquals(code(middle, format), low % 2 === 0 ? low : low + 1, "the even one");
    }
  }
});

Deno.test("Beyond the largest number of eight bits there is infinity, or none", () => {
  assertEquals(
    [448, 460, 480, Infinity, -1e9, NaN].map((value) => code(value, "fp8_e4m3")),
    [0x7e, 0x7e, 0x7f, 0x7f, 0xff, 0x7f],
  );
  assertEquals(
    [57344, 61000, 61440, Infinity, -1e9, NaN].map((value) => code(value, "fp8_e5m2")),
    [0x7b, 0x7b, 0x7c, 0x7c, 0xfc, 0x7f],
  );
});

Deno.test("A bfloat16 is the upper half of a float32, rounded to the nearest, of two to the even one", () => {
  assertEquals(
    [1, -1, 1 + 2 ** -8, 1 + 3 * 2 ** -8, 1 + 2 ** -8 + 2 ** -20, 3.4e38, Infinity, 0, -0].map(
      (value) => code(value, "bfloat16"),
    ),
    [0x3f80, 0xbf80, 0x3f80, 0x3f82, 0x3f81, 0x7f80, 0x7f80, 0, 0x8000],
  );
  assertEquals(code(1, "bfloat16", false), 0x3f80);
  assertEquals(code(1.5, "float16"), 0x3e00);
});
