/** What a clock may choose: kernels with the same bits, and the faster of them. */

import { assertEquals } from "@std/assert";
import { packPanel, panelBytes, WEIGHT_FORMATS } from "../../lib/device/block_formats.ts";
import type { MatmulArgs } from "../../lib/device/kernel_table.ts";
import { chooseFastest } from "../../lib/device/simd/kernel_choice.ts";
import { createSimdKernels, simdScratchBytes } from "../../lib/device/simd/simd.ts";
import { Random, randomRows, randomSeed } from "./kernel_contract.ts";

const SCRATCH_BYTES = simdScratchBytes({ kMax: 1024, headDimMax: 8, headGroupMax: 1 });
const scratch = { address: 0, sizeBytes: SCRATCH_BYTES };

/** A clock that only moves when it is told to. */
class Clock {
  ms = 0;
  readonly now = () => this.ms;
}

/** A candidate that takes its time on that clock. */
function taking<Name extends string>(clock: Clock, name: Name, ms: number) {
  return { name, run: () => void (clock.ms += ms) };
}

Deno.test("The candidate that takes the least time is chosen, wherever it stands", () => {
  const clock = new Clock();
  const [slow, middle, fast] = [
    taking(clock, "slow", 3),
    taking(clock, "middle", 2),
    taking(clock, "fast", 1),
  ] as const;
  assertEquals(chooseFastest([slow, middle, fast], clock.now), "fast");
  assertEquals(chooseFastest([fast, slow, middle], clock.now), "fast");
  assertEquals(chooseFastest([middle, fast, slow], clock.now), "fast");
});

Deno.test("A candidate that is hardly faster than the first is not chosen", () => {
  const clock = new Clock();
  const [first, close] = [taking(clock, "first", 1), taking(clock, "close", 0.95)] as const;
  assertEquals(chooseFastest([first, close], clock.now), "first");
});

Deno.test("A candidate may be slow until V8 has optimised it, and be disturbed now and then", () => {
  const clock = new Clock();
  let runs = 0;
  const late = {
    name: "late",
    // Optimised after 36 ms.
    run: () => void (clock.ms += ++runs < 7200 ? 0.005 : runs % 20 === 0 ? 0.009 : 0.001),
  };
  assertEquals(chooseFastest([late, taking(clock, "steady", 0.002)], clock.now), "late");
  assertEquals(chooseFastest([taking(clock, "steady", 0.002), late], clock.now), "late");
});

/** A float with any bits at all, NaN and infinities among them, every now and then. */
function anyFloat(random: Random): number {
  const special = [NaN, Infinity, -Infinity, -0, 1e-40, 3e38];
  return random.float() < 0.01 ? random.pick(special) : random.float() * 2 - 1;
}

Deno.test("Narrow, wide and timed tiles give the same bits in every format and odd shape", () => {
  const random = new Random(randomSeed());
  for (const format of WEIGHT_FORMATS) {
    for (
      const [rowCount, panels, k] of [[16, 3, 64], [17, 1, 32], [35, 5, 96], [
        100,
        4,
        1024,
      ]] as const
    ) {
      const memory = new WebAssembly.Memory({ initial: 60, maximum: 60, shared: true });
      const bytes = new Uint8Array(memory.buffer);
      const xStride = k + 4;
      const outStride = panels * 8 + 8;
      const x = Math.ceil(SCRATCH_BYTES / 16) * 16;
      const weight = x + 4 * rowCount * xStride;
      const outs = weight + panels * panelBytes(format, k);
      const outBytes = 4 * rowCount * outStride;
      const floats = new Float32Array(memory.buffer, x, rowCount * xStride);
      // Whole rows of plain numbers too: one NaN says nothing about the sums beside it.
      for (let i = 0; i < floats.length; i++) {
        const special = Math.floor(i / xStride) % 3 === 0;
        floats[i] = special ? anyFloat(random) : random.float() * 2 - 1;
      }
      for (let p = 0; p < panels; p++) {
        const source = randomRows(format, 8, k, random, 1);
        const target = weight + p * panelBytes(format, k);
        packPanel(format, k, source, 8, bytes.subarray(target, target + panelBytes(format, k)));
      }
      const args: Omit<MatmulArgs, "out"> = {
        x,
        xStride,
        rowCount,
        weight: { address: weight, format, n: panels * 8, k },
        panelStart: 0,
        panelEnd: panels,
        outStride,
      };
      const results = ([{ gemm: "narrow" }, { gemm: "wide" }, {}] as const).map((options, i) => {
        const out = outs + i * outBytes;
        new Float32Array(memory.buffer, out, outBytes / 4).fill(7);
        createSimdKernels(memory, scratch, options).matmul({ ...args, out });
        const floats = new Float32Array(memory.buffer, out, outBytes / 4);
        // Which NaN it is, the order of equal operands in an instruction decides.
        const bits = new Int32Array(memory.buffer, out, outBytes / 4);
        return Array.from(bits, (word, j) => Number.isNaN(floats[j]) ? NaN : word);
      });
      const what = `${format}, ${rowCount} rows, ${panels} panels, k ${k}, ${random}`;
      assertEquals(results[1], results[0], `wide: ${what}`);
      assertEquals(results[2], results[0], `timed: ${what}`);
    }
  }
});
