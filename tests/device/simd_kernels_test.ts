/** The fast kernels: the contract of every backend, and what is theirs alone. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { WEIGHT_FORMATS, weightBytes } from "../../lib/device/block_formats.ts";
import type { KernelTable, KvDtype, PanelWeight } from "../../lib/device/kernel_table.ts";
import { createReferenceKernels } from "../../lib/device/pe/reference.ts";
import { ModuleBuilder, result, set } from "../../lib/device/simd/assembler.ts";
import { Exponential } from "../../lib/device/simd/exponential.ts";
import { f32x4 } from "../../lib/device/simd/instructions.ts";
import { planTiles } from "../../lib/device/simd/tile_plan.ts";
import { integerMatmulScratchBytes } from "../../lib/device/simd/integer_matmul.ts";
import {
  checkByteDot,
  checkFusedMultiplyAdd,
  isExactDot,
} from "../../lib/device/simd/self_check.ts";
import { createSimdKernels, simdScratchBytes } from "../../lib/device/simd/simd.ts";
import { InvariantError } from "../../lib/base/invariant.ts";
import {
  CONTRACT_LIMITS,
  kernelContract,
  QUANTIZED_FORMATS,
  Random,
  randomSeed,
} from "./kernel_contract.ts";

const SCRATCH_BYTES = simdScratchBytes(CONTRACT_LIMITS);

kernelContract(
  "simd",
  (memory) => createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES }),
  { reservedBytes: SCRATCH_BYTES },
);

kernelContract(
  "simd, wide tiles",
  (memory) => createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES }, { gemm: "wide" }),
  { reservedBytes: SCRATCH_BYTES },
);

for (const integerDot of ["quads", "pairs", "words"] as const) {
  kernelContract(
    `simd, integers by ${integerDot}`,
    (memory) => createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES }, { integerDot }),
    { reservedBytes: SCRATCH_BYTES },
  );
}

// ---------------------------------------------------------------- staying inside

/** What a kernel is given: bytes of each operand, which of them it writes, and the call. */
interface Case {
  readonly name: string;
  readonly sizes: Readonly<Record<string, number>>;
  readonly outputs: readonly string[];
  /** Operands that hold int32, all of them valid; others get small random float32. */
  readonly integers?: Readonly<Record<string, readonly number[]>>;
  run(kernels: KernelTable, at: Readonly<Record<string, number>>): void;
}

const CANARY = 0xa5;
const PAGE_BYTES = 65536;

/** Runs a case once for each operand that can be the last thing in memory. */
function runInside(test: Case, scratchBytes: number, random: Random): void {
  for (const last of Object.keys(test.sizes)) {
    const names = [...Object.keys(test.sizes).filter((name) => name !== last), last];
    const total = names.reduce((sum, name) => sum + test.sizes[name]! + 64, 0);
    const pages = Math.ceil((1024 + scratchBytes + total) / PAGE_BYTES) + 1;
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    const bytes = new Uint8Array(memory.buffer).fill(CANARY);
    const scratch = { address: 512, sizeBytes: scratchBytes };
    const at: Record<string, number> = {};
    let top = align(scratch.address + scratchBytes + 64);
    for (const name of names) {
      at[name] = name === last ? bytes.length - test.sizes[name]! : top;
      top = align(top + test.sizes[name]! + 32);
      fill(memory, at[name]!, test.sizes[name]!, test.integers?.[name], random);
    }
    const before = bytes.slice();
    test.run(createSimdKernels(memory, scratch, { now: hurriedClock() }), at);
    const allowed = [
      [scratch.address, scratchBytes],
      ...test.outputs.map((name) => [at[name]!, test.sizes[name]!]),
    ] as [number, number][];
    for (const [start, size] of allowed) before.set(bytes.subarray(start, start + size), start);
    const wrong = bytes.findIndex((byte, i) => byte !== before[i]);
    assertEquals(wrong, -1, `${test.name} with ${last} last, ${random}: wrote at byte ${wrong}`);
  }
}

/** Kernels are raced as ever, for a few rounds: this clock says that they have taken long. */
function hurriedClock(): () => number {
  let ms = 0;
  return () => ms += 10;
}

function align(address: number): number {
  return Math.ceil(address / 16) * 16;
}

function fill(
  memory: WebAssembly.Memory,
  address: number,
  size: number,
  integers: readonly number[] | undefined,
  random: Random,
): void {
  if (integers !== undefined) {
    new Int32Array(memory.buffer, address, integers.length).set(integers);
    return;
  }
  const floats = new Float32Array(memory.buffer, address, size >> 2);
  for (let i = 0; i < floats.length; i++) floats[i] = random.float() * 2 - 1;
}

Deno.test("SIMD matmul and embed stay inside their operands and scratch, at the end of memory", () => {
  const random = new Random(randomSeed());
  const limits = { kMax: 96, headDimMax: 8, headGroupMax: 1 };
  for (const format of WEIGHT_FORMATS) {
    for (const rowCount of [1, 2, 3, 4, 5, 7, 11]) {
      const weight = { format, n: 16, k: 96 };
      const panels = (at: Readonly<Record<string, number>>): PanelWeight => ({
        ...weight,
        address: at.weight!,
      });
      runInside(
        {
          name: `matmul ${format} rows ${rowCount}`,
          sizes: { x: 4 * 96 * rowCount, weight: weightBytes(format, 16, 96), out: 64 * rowCount },
          outputs: ["out"],
          run: (kernels, at) =>
            kernels.matmul({
              x: at.x!,
              xStride: 96,
              rowCount,
              weight: panels(at),
              panelStart: 0,
              panelEnd: 2,
              out: at.out!,
              outStride: 16,
            }),
        },
        simdScratchBytes(limits),
        random,
      );
      if (rowCount !== 3) continue;
      runInside(
        {
          name: `embed ${format}`,
          sizes: { ids: 12, weight: weightBytes(format, 16, 96), out: 12 * 96 },
          integers: { ids: [15, 0, 15] },
          outputs: ["out"],
          run: (kernels, at) =>
            kernels.embed({
              weight: panels(at),
              ids: at.ids!,
              out: at.out!,
              outStride: 96,
              rowStart: 0,
              rowEnd: 3,
            }),
        },
        simdScratchBytes(limits),
        random,
      );
    }
  }
});

Deno.test("SIMD matmul with integers fills its scratch to the brim and no further", () => {
  const random = new Random(randomSeed());
  const [k, rowCount] = [8192, 70];
  runInside(
    {
      name: "matmul of the largest k",
      sizes: { x: 4 * k * rowCount, weight: weightBytes("q4_1", 8, k), out: 32 * rowCount },
      outputs: ["out"],
      run: (kernels, at) =>
        kernels.matmul({
          activations: "i16",
          x: at.x!,
          xStride: k,
          rowCount,
          weight: { address: at.weight!, format: "q4_1", n: 8, k },
          panelStart: 0,
          panelEnd: 1,
          out: at.out!,
          outStride: 8,
        }),
    },
    integerMatmulScratchBytes({ kMax: k, headDimMax: 8, headGroupMax: 1 }),
    random,
  );
});

Deno.test("SIMD matmul fills its scratch to the brim and no further", () => {
  const random = new Random(randomSeed());
  const k = 8192;
  const scratchBytes = simdScratchBytes({ kMax: k, headDimMax: 8, headGroupMax: 1 });
  runInside(
    {
      name: "matmul of the largest k",
      sizes: { x: 4 * k * 45, weight: weightBytes("q4_1", 8, k), out: 32 * 45 },
      outputs: ["out"],
      run: (kernels, at) =>
        kernels.matmul({
          x: at.x!,
          xStride: k,
          rowCount: 45,
          weight: { address: at.weight!, format: "q4_1", n: 8, k },
          panelStart: 0,
          panelEnd: 1,
          out: at.out!,
          outStride: 8,
        }),
    },
    scratchBytes,
    random,
  );
});

Deno.test("SIMD matmul with integers stays inside its operands and scratch, at the end of memory", () => {
  const random = new Random(randomSeed());
  const limits = { kMax: 96, headDimMax: 8, headGroupMax: 1 };
  for (const format of QUANTIZED_FORMATS) {
    for (const activations of ["i16", "i8"] as const) {
      for (const rowCount of [1, 2, 3, 4, 5, 11]) {
        runInside(
          {
            name: `matmul ${format} ${activations} rows ${rowCount}`,
            sizes: {
              x: 4 * 96 * rowCount,
              weight: weightBytes(format, 16, 96),
              out: 64 * rowCount,
            },
            outputs: ["out"],
            run: (kernels, at) =>
              kernels.matmul({
                activations,
                x: at.x!,
                xStride: 96,
                rowCount,
                weight: { address: at.weight!, format, n: 16, k: 96 },
                panelStart: 0,
                panelEnd: 2,
                out: at.out!,
                outStride: 16,
              }),
          },
          simdScratchBytes(limits),
          random,
        );
      }
    }
  }
});

Deno.test("SIMD attention and writeKv stay inside their operands, at the end of memory", () => {
  const random = new Random(randomSeed());
  const headDim = 16;
  for (const dtype of ["bf16", "f32"] satisfies KvDtype[]) {
    for (const group of [1, 2, 3, 4, 7]) {
      const limits = { kMax: 8, headDimMax: headDim, headGroupMax: group };
      const poolBytes = 3 * 2 * 16 * headDim * (dtype === "bf16" ? 2 : 4);
      const rowBytes = 4 * 2 * group * headDim;
      const cache = (at: Readonly<Record<string, number>>) => ({
        keys: at.keys!,
        values: at.values!,
        dtype,
        kvHeads: 2,
        headDim,
      });
      runInside(
        {
          name: `attention ${dtype} group ${group}`,
          sizes: {
            q: 2 * rowBytes,
            out: 2 * rowBytes,
            keys: poolBytes,
            values: poolBytes,
            positions: 8,
            sequences: 8,
            blockTables: 8,
          },
          integers: { positions: [18, 31], sequences: [0, 0], blockTables: [1, 2] },
          outputs: ["out"],
          run: (kernels, at) =>
            kernels.attention({
              q: at.q!,
              qStride: rowBytes / 4,
              out: at.out!,
              outStride: rowBytes / 4,
              heads: 2 * group,
              scale: 0.25,
              window: 0,
              cache: cache(at),
              positions: at.positions!,
              sequences: at.sequences!,
              blockTables: at.blockTables!,
              blockTableStride: 2,
              unitStart: 0,
              unitEnd: 4,
              unitStep: 1,
            }),
        },
        simdScratchBytes(limits),
        random,
      );
      runInside(
        {
          name: `writeKv ${dtype}`,
          sizes: {
            k: 8 * 2 * headDim,
            v: 8 * 2 * headDim,
            slots: 8,
            keys: poolBytes,
            values: poolBytes,
          },
          integers: { slots: [47, 16] },
          outputs: ["keys", "values"],
          run: (kernels, at) =>
            kernels.writeKv({
              k: at.k!,
              kStride: 2 * headDim,
              v: at.v!,
              vStride: 2 * headDim,
              slots: at.slots!,
              cache: cache(at),
              rowStart: 0,
              rowEnd: 2,
            }),
        },
        simdScratchBytes(limits),
        random,
      );
    }
  }
});

Deno.test("SIMD row kernels stay inside their operands, at the end of memory", () => {
  const random = new Random(randomSeed());
  const scratchBytes = simdScratchBytes({ kMax: 8, headDimMax: 8, headGroupMax: 1 });
  for (const width of [1, 3, 4, 6, 8, 13, 24]) {
    const rows = 4 * 2 * width;
    const columns = { rowCount: 2, columnStart: 0, columnEnd: width };
    const cases: Case[] = [
      {
        name: "rmsNorm",
        sizes: { x: rows, weight: 4 * width, out: rows },
        outputs: ["out"],
        run: (kernels, at) =>
          kernels.rmsNorm({
            x: at.x!,
            xStride: width,
            weight: at.weight!,
            epsilon: 1e-5,
            width,
            groups: 1,
            out: at.out!,
            outStride: width,
            rowStart: 0,
            rowEnd: 2,
          }),
      },
      {
        name: "add",
        sizes: { x: rows, y: rows },
        outputs: ["x"],
        run: (kernels, at) =>
          kernels.add({ x: at.x!, xStride: width, y: at.y!, yStride: width, ...columns }),
      },
      {
        name: "addBias",
        sizes: { x: rows, bias: 4 * width },
        outputs: ["x"],
        run: (kernels, at) =>
          kernels.addBias({ x: at.x!, xStride: width, bias: at.bias!, ...columns }),
      },
      {
        name: "siluMultiply",
        sizes: { gate: rows, up: rows },
        outputs: ["gate"],
        run: (kernels, at) =>
          kernels.siluMultiply({
            gate: at.gate!,
            gateStride: width,
            up: at.up!,
            upStride: width,
            ...columns,
          }),
      },
      {
        name: "geluTanhMultiply",
        sizes: { gate: rows, up: rows },
        outputs: ["gate"],
        run: (kernels, at) =>
          kernels.geluTanhMultiply({
            gate: at.gate!,
            gateStride: width,
            up: at.up!,
            upStride: width,
            ...columns,
          }),
      },
      {
        name: "scale",
        sizes: { x: rows },
        outputs: ["x"],
        run: (kernels, at) => kernels.scale({ x: at.x!, xStride: width, factor: 3, ...columns }),
      },
      {
        name: "softcap",
        sizes: { x: rows },
        outputs: ["x"],
        run: (kernels, at) => kernels.softcap({ x: at.x!, xStride: width, cap: 0.3, ...columns }),
      },
      {
        name: "gelu",
        sizes: { x: rows },
        outputs: ["x"],
        run: (kernels, at) => kernels.gelu({ x: at.x!, xStride: width, ...columns }),
      },
      {
        name: "takeRows",
        sizes: { x: rows, indices: 8, out: rows },
        integers: { indices: [1, 0] },
        outputs: ["out"],
        run: (kernels, at) =>
          kernels.takeRows({
            x: at.x!,
            xStride: width,
            indices: at.indices!,
            width,
            out: at.out!,
            outStride: width,
            rowStart: 0,
            rowEnd: 2,
          }),
      },
    ];
    if (width % 8 === 0) {
      cases.push({
        name: "layerNorm",
        sizes: { x: rows, weight: 4 * width, bias: 4 * width },
        outputs: ["x"],
        run: (kernels, { x, weight, bias }) =>
          kernels.layerNorm({
            x: x!,
            xStride: width,
            weight: weight!,
            bias: bias!,
            epsilon: 1e-5,
            width,
            rowStart: 0,
            rowEnd: 2,
          }),
      });
    }
    if (width % 2 === 0) {
      cases.push({
        name: "rope",
        sizes: { x: rows, positions: 8, table: 4 * 3 * width },
        integers: { positions: [2, 0] },
        outputs: ["x"],
        run: (kernels, at) =>
          kernels.rope({
            x: at.x!,
            xStride: width,
            heads: 1,
            headDim: width,
            rotaryDim: width,
            positions: at.positions!,
            table: at.table!,
            rowStart: 0,
            rowEnd: 2,
          }),
      });
    }
    for (const test of cases) runInside(test, scratchBytes, random);
  }
});

// ---------------------------------------------------------------- bits

Deno.test("SIMD matmul gives a few rows over many panels the bits of single rows", () => {
  const random = new Random(randomSeed());
  const [k, n] = [512, 456];
  for (const [format, rowCount] of [["f32", 2], ["q4_1", 3], ["f32", 4], ["bf16", 7]] as const) {
    const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
    const kernels = createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES });
    const x = align(SCRATCH_BYTES);
    const weight: PanelWeight = { address: x + 4 * rowCount * k, format, n, k };
    const out = weight.address + weightBytes(format, n, k);
    const single = out + 4 * rowCount * n;
    fill(memory, x, 4 * rowCount * k + weightBytes(format, n, k), undefined, random);
    const args = { xStride: k, weight, panelStart: 0, panelEnd: n / 8, outStride: n };
    kernels.matmul({ ...args, x, rowCount, out });
    for (let row = 0; row < rowCount; row++) {
      kernels.matmul({ ...args, x: x + 4 * row * k, rowCount: 1, out: single + 4 * row * n });
    }
    const outputs = (address: number) =>
      new Uint32Array(memory.buffer, address, rowCount * n).slice();
    assertEquals(outputs(out), outputs(single), `${random}: ${format}, ${rowCount} rows`);
  }
});

Deno.test("SIMD matmul gives many blocks of rows the bits of single rows", () => {
  const random = new Random(randomSeed());
  const [rowCount, k, n] = [301, 1024, 8];
  const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
  const kernels = createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES });
  const x = align(SCRATCH_BYTES);
  const weight: PanelWeight = { address: x + 4 * rowCount * k, format: "f32", n, k };
  const out = weight.address + weightBytes("f32", n, k);
  const single = out + 4 * rowCount * n;
  fill(memory, x, 4 * rowCount * k, undefined, random);
  fill(memory, weight.address, weightBytes("f32", n, k), undefined, random);
  const args = { xStride: k, weight, panelStart: 0, panelEnd: 1, outStride: n };
  kernels.matmul({ ...args, x, rowCount, out });
  for (let row = 0; row < rowCount; row++) {
    kernels.matmul({ ...args, x: x + 4 * row * k, rowCount: 1, out: single + 4 * row * n });
  }
  const outputs = (address: number) =>
    new Uint32Array(memory.buffer, address, rowCount * n).slice();
  assertEquals(outputs(out), outputs(single), `${random}`);
});

Deno.test("SIMD kernels keep infinite and undefined float16 weights and scales as they are", () => {
  const random = new Random(randomSeed());
  const special = [0x7c00, 0xfc00, 0x7e00, 0xfd01, 0x0001, 0x83ff, 0x7bff, 0x0400, 0x8000];
  for (const format of ["f16", "q8_0", "q4_0", "q4_1"] as const) {
    for (const rowCount of [1, 2, 5]) {
      const [k, n] = [32, 24];
      const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
      const kernels = createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES });
      const reference = createReferenceKernels(memory);
      const weight: PanelWeight = { address: align(SCRATCH_BYTES), format, n, k };
      const x = align(weight.address + weightBytes(format, n, k));
      const [actual, expected] = [x + 4 * rowCount * k, x + 8 * rowCount * k];
      fill(memory, x, 4 * rowCount * k, undefined, random);
      const halves = new Uint16Array(memory.buffer, weight.address, weightBytes(format, n, k) / 2);
      // Of three panels the middle one is special.
      const panel = halves.length / 3;
      const specialEnd = panel + (format === "f16" ? panel : format === "q4_1" ? 16 : 8);
      for (let i = 0; i < halves.length; i++) {
        halves[i] = i >= panel && i < specialEnd && random.integer(0, 3) === 0
          ? random.pick(special)
          : random.integer(0x2000, 0x3c00);
      }
      const args = {
        x,
        xStride: k,
        rowCount,
        weight,
        panelStart: 0,
        panelEnd: n / 8,
        outStride: n,
      };
      kernels.matmul({ ...args, out: actual });
      reference.matmul({ ...args, out: expected });
      const floats = (address: number, count: number) => [
        ...new Float32Array(memory.buffer, address, count),
      ];
      const what = `${random}: ${format}, ${rowCount} rows`;
      assertEquals(floats(actual, n * rowCount), floats(expected, n * rowCount), what);

      const ids = expected + 4 * rowCount * k;
      fill(memory, ids, 32, [8, 9, 10, 11, 12, 13, 14, 15], random);
      for (const [table, out] of [[kernels, actual], [reference, ids + 64]] as const) {
        table.embed({ weight, ids, out, outStride: k, rowStart: 0, rowEnd: rowCount });
      }
      assertEquals(floats(actual, rowCount * k), floats(ids + 64, rowCount * k), `embed ${what}`);
    }
  }
});

Deno.test("SIMD matmul takes float16 weights times activations of any size", () => {
  const random = new Random(randomSeed());
  const [k, n] = [64, 24];
  for (const rowCount of [1, 3, 9]) {
    for (const large of [65535, 65536, -1e30, 1e-40, Infinity, NaN]) {
      const memory = new WebAssembly.Memory({ initial: 64, maximum: 64, shared: true });
      const kernels = createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES });
      const x = align(SCRATCH_BYTES);
      const weight: PanelWeight = { address: x + 4 * rowCount * k, format: "f16", n, k };
      const actual = weight.address + weightBytes("f16", n, k);
      const expected = actual + 4 * rowCount * n;
      fill(memory, x, 4 * rowCount * k, undefined, random);
      // Finite, and every other one subnormal.
      const halves = new Uint16Array(memory.buffer, weight.address, n * k);
      for (let i = 0; i < n * k; i++) {
        halves[i] = (random.integer(0, 65536) & 0x83ff) | (i % 2 << 13);
      }
      new Float32Array(memory.buffer, x, rowCount * k)[(rowCount - 1) * k + 5] = large;
      const args = { x, xStride: k, rowCount, weight, panelStart: 0, panelEnd: 3, outStride: n };
      kernels.matmul({ ...args, out: actual });
      createReferenceKernels(memory).matmul({ ...args, out: expected });
      const floats = (address: number) => [
        ...new Float32Array(memory.buffer, address, n * rowCount),
      ];
      assertEquals(floats(actual), floats(expected), `${random}: ${rowCount} rows, ${large}`);
    }
  }
});

Deno.test("checkFusedMultiplyAdd says what relaxed multiply-add does with a product that needs 47 bits", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const module = new ModuleBuilder();
  const madd = module.define("madd", ["f32", "f32", "f32"], "f32", (_, a, b, c) => [
    result(f32x4.extractLane(f32x4.relaxedMadd(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 2)),
  ]);
  const difference = module.link(memory).get(madd)(1 + 2 ** -23, 1 - 2 ** -23, -1);
  assert(difference === 0 || difference === -(2 ** -46));
  assertEquals(checkFusedMultiplyAdd(), difference !== 0);
});

Deno.test("checkByteDot trusts exact sums, and none that are cut or take the wrong side", () => {
  const exact = (a: number[], b: number[], c: number) =>
    a.reduce((sum, value, i) => sum + value * b[i]!, c);
  const cut = (value: number) => Math.max(-32768, Math.min(32767, value));
  const byte = (value: number) => value << 24 >> 24;
  assertEquals(isExactDot(exact), true);
  const wrong: Record<string, typeof exact> = {
    "the other side is signed": (a, b, c) => exact(a.map((v) => v & 255), b, c),
    "two products are cut to bytes' sums": (a, b, c) =>
      c + byte(a[0]! * b[0]! + a[1]! * b[1]!) + a[2]! * b[2]! + a[3]! * b[3]!,
    "four products are cut to 16 bits": (a, b, c) => c + cut(exact(a, b, 0)),
    "the addend is cut": (a, b, c) => cut(exact(a, b, c)),
    "no addend": (a, b) => exact(a, b, 0),
    "only the first product": (a, b, c) => c + a[0]! * b[0]!,
  };
  for (const [what, dot] of Object.entries(wrong)) assertEquals(isExactDot(dot), false, what);
  assertEquals(checkByteDot(), true, "this processor's");
});

Deno.test("The exponential is right to 2e-7, and calm at both ends", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const module = new ModuleBuilder();
  const exp = module.define("exp", ["f32"], "f32", (scope, x) => {
    const exponential = new Exponential(scope);
    const value = scope.local("v128");
    return [
      exponential.setup,
      set(value, f32x4.splat(x)),
      exponential.apply(value, value),
      result(f32x4.extractLane(value, 1)),
    ];
  });
  const compute = module.link(memory).get(exp);
  const random = new Random(randomSeed());
  let worst = 0;
  for (let i = 0; i < 100_000; i++) {
    const x = Math.fround(i % 2 === 0 ? random.float() * 175.6 - 87.3 : random.float() * 4 - 3);
    const expected = Math.exp(x);
    worst = Math.max(worst, Math.abs(compute(x) - expected) / expected);
  }
  assert(worst <= 2e-7, `${random}: relative error ${worst}`);
  assertEquals([0, -0].map((x) => compute(x)), [1, 1]);
  assertEquals([-87.4, -104, -1e30, -Infinity].map((x) => compute(x)), [0, 0, 0, 0]);
  assertEquals([88.8, Exponential.largest].map((x) => compute(x)), [Infinity, Infinity]);
  assertEquals(compute(NaN), NaN);
});

// ---------------------------------------------------------------- plans and refusals

Deno.test("A tile plan covers all rows with nearly equal tiles of three to five", () => {
  for (let rowCount = 3; rowCount < 400; rowCount++) {
    const { smallRows, large, small } = planTiles(rowCount);
    assertEquals(large * (smallRows + 1) + small * smallRows, rowCount);
    assert(smallRows >= 3 && smallRows + (large > 0 ? 1 : 0) <= 5, `${rowCount} rows`);
    assertEquals(large + small, Math.ceil(rowCount / 5));
    assert(small > 0);
  }
});

Deno.test("A scratch that is too small for a shape is refused when the shape turns up", () => {
  const memory = new WebAssembly.Memory({ initial: 16, maximum: 16, shared: true });
  const kernels = createSimdKernels(memory, { address: 0, sizeBytes: 4096 });
  const weight: PanelWeight = { address: 65536, format: "f32", n: 8, k: 256 };
  const rows = { out: 4096, outStride: 256, rowStart: 0, rowEnd: 1 };
  assertThrows(
    () => kernels.embed({ weight, ids: 8192, ...rows }),
    InvariantError,
    "A scratch of 4096 bytes is too small",
  );
  assertThrows(
    () =>
      kernels.matmul({
        x: 131072,
        xStride: 256,
        rowCount: 4,
        weight,
        panelStart: 0,
        panelEnd: 1,
        out: 262144,
        outStride: 8,
      }),
    InvariantError,
    "A scratch of 4096 bytes is too small",
  );
});
