/** The assembler: encodings, control flow, and instructions that are run and checked. */

import { assertEquals, assertThrows } from "@std/assert";
import {
  block,
  type Body,
  branch,
  branchIf,
  call,
  callFor,
  doWhile,
  type Expr,
  increment,
  type Linked,
  loop,
  ModuleBuilder,
  result,
  set,
  setI32,
  type ValueType,
  when,
  whileTrue,
} from "../../lib/device/simd/assembler.ts";
import { flatten, float32, section, signed, unsigned } from "../../lib/device/simd/encoding.ts";
import {
  f32,
  f32x4,
  i16x8,
  i32,
  i32x4,
  i8x16,
  memoryCopy,
  v128,
} from "../../lib/device/simd/instructions.ts";
import { maxLanes, permute, splatLane, sumLanes, transpose } from "../../lib/device/simd/lanes.ts";
import { InvariantError } from "../../lib/base/invariant.ts";

function newMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
}

/** Assembles one function of i32 parameters and links it. */
function assemble(
  paramCount: 0 | 1 | 2,
  resultType: ValueType | "none",
  build: Parameters<ModuleBuilder["define"]>[3],
  memory = newMemory(),
): Linked {
  const module = new ModuleBuilder();
  const params = new Array<ValueType>(paramCount).fill("i32");
  const ref = module.define("run", params, resultType, build);
  return module.link(memory).get(ref);
}

type Lanes = readonly [number, number, number, number];

const floats = (lanes: Lanes): Expr<"v128"> => v128.constBytes(lanes.flatMap(float32));
const ints = (lanes: Lanes): Expr<"v128"> => v128.constLanes(lanes);

/** The bytes of a vector expression. */
function evaluate(vector: Expr<"v128">): Uint8Array {
  const memory = newMemory();
  assemble(0, "none", () => [v128.store(i32.const(0), vector)], memory)();
  return new Uint8Array(memory.buffer, 0, 16).slice();
}

const asFloats = (vector: Expr<"v128">) => [...new Float32Array(evaluate(vector).buffer)];
const asInts = (vector: Expr<"v128">) => [...new Int32Array(evaluate(vector).buffer)];

Deno.test("Unsigned LEB128 takes seven bits a byte, lowest first", () => {
  assertEquals(unsigned(0), [0]);
  assertEquals(unsigned(127), [127]);
  assertEquals(unsigned(128), [0x80, 1]);
  assertEquals(unsigned(624485), [0xe5, 0x8e, 0x26]);
  assertEquals(unsigned(0xffffffff), [0xff, 0xff, 0xff, 0xff, 0x0f]);
});

Deno.test("Signed LEB128 ends where the sign says the rest", () => {
  assertEquals(signed(0), [0]);
  assertEquals(signed(63), [63]);
  assertEquals(signed(64), [0xc0, 0]);
  assertEquals(signed(-1), [0x7f]);
  assertEquals(signed(-64), [0x40]);
  assertEquals(signed(-65), [0xbf, 0x7f]);
  assertEquals(signed(-123456), [0xc0, 0xbb, 0x78]);
  assertEquals(signed(0x80000000), [0x80, 0x80, 0x80, 0x80, 0x78]);
});

Deno.test("A constant survives its encoding, whatever its bits", () => {
  for (
    const value of [0, 1, -1, 63, 64, -64, -65, 8191, 8192, 2 ** 31 - 1, -(2 ** 31), 123456789]
  ) {
    assertEquals(assemble(0, "i32", () => [result(i32.const(value))])(), value);
  }
  assertEquals(assemble(0, "i32", () => [result(i32.const(0xfffffff0))])(), -16);
  for (const value of [0, -0, 1.5, -3.25e-38, Infinity, NaN]) {
    assertEquals(assemble(0, "f32", () => [result(f32.const(value))])(), Math.fround(value));
  }
});

Deno.test("A section says its length in bytes after flattening", () => {
  assertEquals(section(3, [1, [2, [3]], []]), [3, 3, 1, 2, 3]);
  assertEquals(section(10, new Array(200).fill(7)).slice(0, 3), [10, 0xc8, 0x01]);
  assertEquals(flatten([[[]], 1, [[2], 3]]), [1, 2, 3]);
});

Deno.test("A function sums in a loop and gives its result", () => {
  const sum = assemble(1, "i32", (scope, count) => {
    const total = scope.local("i32");
    const n = count as typeof total;
    return [
      whileTrue(n, increment(total, n), increment(n, -1)),
      result(total),
    ];
  });
  assertEquals([0, 1, 10, 1000].map((n) => sum(n)), [0, 1, 55, 500500]);
});

Deno.test("doWhile runs its body before it asks", () => {
  const runs = assemble(1, "i32", (scope, count) => {
    const total = scope.local("i32");
    const n = count as typeof total;
    return [doWhile(i32.gtS(n, 0), increment(total, 1), increment(n, -1)), result(total)];
  });
  assertEquals([0, 1, 5].map((n) => runs(n)), [1, 1, 5]);
});

Deno.test("when takes one of its two ways", () => {
  const choose = assemble(1, "i32", (scope, value) => {
    const out = scope.local("i32");
    return [
      when(i32.ltS(value as typeof out, 0), [setI32(out, -1)], [
        when(value as typeof out, [setI32(out, 1)]),
      ]),
      result(out),
    ];
  });
  assertEquals([-5, 0, 9].map((n) => choose(n)), [-1, 0, 1]);
});

Deno.test("Branches leave blocks and repeat loops at any depth", () => {
  // Counts in an endless loop until the block around it is left.
  const count = assemble(1, "i32", (scope, limit) => {
    const n = scope.local("i32");
    return [
      block(
        loop(
          increment(n, 1),
          branchIf(1, i32.geU(n, limit as typeof n)),
          when(1, [branch(1)]),
        ),
      ),
      result(n),
    ];
  });
  assertEquals([1, 2, 77].map((n) => count(n)), [1, 2, 77]);
});

Deno.test("Functions call earlier ones of their module, with and without results", () => {
  const memory = newMemory();
  const module = new ModuleBuilder();
  const square = module.define("square", ["i32"], "i32", (_, x) => [result(i32.mul(x, x))]);
  const store = module.define("store", ["i32", "f32"], "none", (_, at, x) => [f32.store(at, x)]);
  const both = module.define("both", ["i32"], "i32", (_, x) => [
    call(store, 8, f32.const(2.5)),
    result(i32.add(callFor(square, x), callFor(square, 3))),
  ]);
  assertEquals(module.link(memory).get(both)(4), 25);
  assertEquals(new Float32Array(memory.buffer)[2], 2.5);
});

Deno.test("Locals of several types keep apart, and start at zero", () => {
  const run = assemble(1, "i32", (scope, given) => {
    const a = scope.local("i32");
    const v = scope.locals("v128", 3);
    const b = scope.local("i32");
    const f = scope.local("f32");
    return [
      set(v[1]!, i32x4.splat(7)),
      setI32(a, i32.add(given as typeof a, 1)),
      setI32(b, a),
      set(f, f32.const(1)),
      result(
        i32.add(
          i32.add(i32.mul(a, b), i32x4.extractLane(v[1]!, 3)),
          i32.add(i32x4.extractLane(v[2]!, 0), i32.reinterpret(f)),
        ),
      ),
    ];
  });
  assertEquals(run(5), 36 + 7 + 0x3f800000);
});

Deno.test("A module without functions is refused", () => {
  assertThrows(() => new ModuleBuilder().link(newMemory()), InvariantError);
});

Deno.test("Integer arithmetic and comparison are those of 32 bits", () => {
  type I32Operation = (a: Expr<"i32">, b: Expr<"i32">) => Expr<"i32">;
  const cases: [I32Operation, (a: number, b: number) => number][] = [
    [i32.add, (a, b) => a + b | 0],
    [i32.sub, (a, b) => a - b | 0],
    [i32.mul, Math.imul],
    [i32.divU, (a, b) => (a >>> 0) / (b >>> 0) | 0],
    [i32.remU, (a, b) => (a >>> 0) % (b >>> 0) | 0],
    [i32.and, (a, b) => a & b],
    [i32.or, (a, b) => a | b],
    [i32.shl, (a, b) => a << b],
    [i32.shrS, (a, b) => a >> b],
    [i32.shrU, (a, b) => a >>> b | 0],
    [i32.eq, (a, b) => Number(a === b)],
    [i32.ne, (a, b) => Number(a !== b)],
    [i32.ltS, (a, b) => Number(a < b)],
    [i32.ltU, (a, b) => Number(a >>> 0 < b >>> 0)],
    [i32.gtS, (a, b) => Number(a > b)],
    [i32.leS, (a, b) => Number(a <= b)],
    [i32.geU, (a, b) => Number(a >>> 0 >= b >>> 0)],
  ];
  const values = [0, 1, -1, 7, 31, 1000003, -(2 ** 31), 2 ** 31 - 1];
  cases.forEach(([operation, expected], index) => {
    const run = assemble(2, "i32", (_, a, b) => [
      result(operation(a as Expr<"i32">, b as Expr<"i32">)),
    ]);
    for (const a of values) {
      for (const b of values) {
        // A division by zero traps, which no kernel relies on.
        if (b !== 0) assertEquals(run(a, b), expected(a, b), `case ${index}: ${a}, ${b}`);
      }
    }
  });
});

Deno.test("Single floats round as JavaScript's fround does", () => {
  const module = new ModuleBuilder();
  const binary = [
    module.define("add", ["f32", "f32"], "f32", (_, a, b) => [result(f32.add(a, b))]),
    module.define("sub", ["f32", "f32"], "f32", (_, a, b) => [result(f32.sub(a, b))]),
    module.define("mul", ["f32", "f32"], "f32", (_, a, b) => [result(f32.mul(a, b))]),
    module.define("div", ["f32", "f32"], "f32", (_, a, b) => [result(f32.div(a, b))]),
  ];
  const root = module.define("sqrt", ["f32"], "f32", (_, a) => [result(f32.sqrt(a))]);
  const linked = module.link(newMemory());
  const [a, b] = [Math.fround(0.1), Math.fround(3.7)];
  assertEquals(
    binary.map((ref) => linked.get(ref)(a, b)),
    [a + b, a - b, a * b, a / b].map(Math.fround),
  );
  assertEquals(linked.get(root)(b), Math.fround(Math.sqrt(b)));
});

Deno.test("Loads and stores reach their offset, lane stores their few bytes", () => {
  const memory = newMemory();
  const bytes = new Uint8Array(memory.buffer);
  bytes.set([0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88], 100);
  const load = (build: (at: Expr<"i32">) => Expr<"i32">) =>
    assemble(1, "i32", (_, at) => [result(build(at as Expr<"i32">))], memory);
  assertEquals(load((at) => i32.load(at, 4))(96), 0x84838281 | 0);
  const lanes = (vector: Expr<"v128">, lane: number) =>
    load(() => i32x4.extractLane(vector, lane))(0);
  const at = i32.const(100);
  assertEquals(lanes(v128.load32Splat(at, 1), 3), 0x85848382 | 0);
  assertEquals([0, 1].map((lane) => lanes(v128.load32Zero(at), lane)), [0x84838281 | 0, 0]);

  const store = (body: Body) => assemble(0, "none", () => body, memory)();
  store([v128.store16Lane(i32.const(204), ints([1, 0x55667788, 3, 4]), 3)]);
  store([v128.store32Lane(i32.const(208), ints([1, 2, 0x01020304, 4]), 2)]);
  store([i32.store(i32.const(212), i32.const(-2))]);
  assertEquals(
    [...bytes.subarray(200, 216)],
    [0, 0, 0, 0, 0x66, 0x55, 0, 0, 4, 3, 2, 1, 0xfe, 255, 255, 255],
  );
  store([memoryCopy(300, 100, 5)]);
  assertEquals([...bytes.subarray(299, 306)], [0, 0x81, 0x82, 0x83, 0x84, 0x85, 0]);
});

Deno.test("A load beyond the memory traps", () => {
  const load = assemble(1, "i32", (_, at) => [result(i32.load(at as Expr<"i32">, 4))]);
  assertEquals(load(65536 - 8), 0);
  assertThrows(() => load(65536 - 4), WebAssembly.RuntimeError);
});

Deno.test("Float lanes compute each by itself", () => {
  const x: Lanes = [1.5, -2, 0.1, 1e30];
  const y: Lanes = [0.25, 3, -7, 1e30];
  const [a, b] = [floats(x), floats(y)];
  const expected = (f: (a: number, b: number) => number) =>
    x.map((value, i) => Math.fround(f(Math.fround(value), Math.fround(y[i]!))));
  assertEquals(asFloats(f32x4.add(a, b)), expected((p, q) => p + q));
  assertEquals(asFloats(f32x4.sub(a, b)), expected((p, q) => p - q));
  assertEquals(asFloats(f32x4.mul(a, b)), expected((p, q) => p * q));
  assertEquals(asFloats(f32x4.div(a, b)), expected((p, q) => p / q));
  assertEquals(asFloats(f32x4.pmin(a, b)), expected(Math.min));
  assertEquals(asFloats(f32x4.pmax(a, b)), expected(Math.max));
  assertEquals(asFloats(f32x4.neg(a)), expected((p) => -p));
  assertEquals(asFloats(f32x4.sqrt(b)), expected((_, q) => Math.sqrt(q)));
  assertEquals(asInts(f32x4.lt(a, b)), expected((p, q) => p < q ? -1 : 0));
  assertEquals(asInts(f32x4.eq(a, b)), [0, 0, 0, -1]);
  assertEquals(asFloats(f32x4.splat(f32.const(2.5))), [2.5, 2.5, 2.5, 2.5]);
  assertEquals(asFloats(v128.constF32(-0.5)), [-0.5, -0.5, -0.5, -0.5]);
  // Exact either way, so fused or not does not matter.
  assertEquals(
    asFloats(f32x4.relaxedMadd(floats([1, 2, 3, 4]), floats([5, 6, 7, 8]), floats([1, 1, 1, 1]))),
    [6, 13, 22, 33],
  );
});

Deno.test("A comparison's pseudo-maximum keeps a NaN that stands first", () => {
  const nan = floats([NaN, NaN, NaN, NaN]);
  assertEquals(asFloats(f32x4.pmax(nan, floats([1, 2, 3, 4]))), [NaN, NaN, NaN, NaN]);
  assertEquals(asFloats(f32x4.pmin(nan, floats([1, 2, 3, 4]))), [NaN, NaN, NaN, NaN]);
});

Deno.test("Integer lanes add, shift and compare", () => {
  const a = ints([1, -1, 0x7fffffff, -(2 ** 31)]);
  assertEquals(asInts(i32x4.add(a, a)), [2, -2, -2, 0]);
  assertEquals(asInts(i32x4.sub(v128.zero, a)), [-1, 1, -0x7fffffff, -(2 ** 31)]);
  assertEquals(asInts(i32x4.shl(a, 4)), [16, -16, -16, 0]);
  assertEquals(asInts(i32x4.shrS(a, 30)), [0, -1, 1, -2]);
  assertEquals(asInts(i32x4.shrU(a, 30)), [0, 3, 1, 2]);
  assertEquals(asInts(i32x4.eq(a, i32x4.splat(-1))), [0, -1, 0, 0]);
  assertEquals(asInts(i32x4.ltS(a, v128.zero)), [0, -1, 0, -1]);
  assertEquals(asInts(i32x4.gtS(a, v128.zero)), [-1, 0, -1, 0]);
  assertEquals(asInts(i32x4.gtU(a, v128.constI32(0x7fffffff))), [0, -1, 0, -1]);
  assertEquals(asFloats(f32x4.convertI32x4S(ints([1, -7, 2 ** 24 + 1, 0]))), [1, -7, 2 ** 24, 0]);
  const [low, high] = [ints([0xfffe0001, 2, 3, 4]), ints([0x00020003, 5, 3, 1])];
  assertEquals(asInts(i16x8.add(low, high)), [4, 7, 6, 5]);
  assertEquals(asInts(i16x8.shl(ints([0x7fff8001 | 0, 3, 0, 0]), 8)), [
    0xff000100 | 0,
    768,
    0,
    0,
  ]);
  assertEquals(asInts(i16x8.shrS(ints([0x7fff8001 | 0, 256, 0, 0]), 7)), [
    0x00ffff00,
    2,
    0,
    0,
  ]);
  assertEquals(asInts(i16x8.maxU(low, high)), [0xfffe0003 | 0, 5, 3, 4]);
  assertEquals(asInts(i16x8.gtU(low, high)), [0xffff0000 | 0, 0, 0, 0xffff]);
  assertEquals(asInts(i32x4.maxU(a, ints([2, 3, 4, 5]))), [2, -1, 0x7fffffff, -(2 ** 31)]);
});

Deno.test("Lanes are narrowed with their sign, and cut to what fits", () => {
  const wide = ints([70_000, -70_000, -3, 40]);
  assertEquals(asInts(i16x8.narrowI32x4S(wide, v128.zero)), [0x80007fff | 0, 0x0028fffd, 0, 0]);
  assertEquals(asInts(i8x16.narrowI16x8S(wide, wide)), [
    ...[0xfe80017f | 0, 0x0028fffd],
    ...[0xfe80017f | 0, 0x0028fffd],
  ]);
  assertEquals(asInts(i8x16.add(ints([0x01ff02fe, 0, 0, 0]), v128.constI32(0x01010101))), [
    0x020003ff,
    0x01010101,
    0x01010101,
    0x01010101,
  ]);
});

Deno.test("Integer products are added up by pairs and fours, floats become whole numbers", () => {
  const words = ints([0x7fff7fff, 0xffff0002, 3, 0]);
  assertEquals(asInts(i32x4.dotI16x8S(words, words)), [2 * 32767 ** 2, 5, 9, 0]);
  const signed = ints([0x80808080, 0x7f7f7f7f, 0x000000ff, 0]);
  const sevenBits = ints([0x7f7f7f7f, 0x7f7f7f7f, 0x00000005, 0]);
  assertEquals(
    asInts(i32x4.relaxedDotAdd(signed, sevenBits, ints([1, 2, 3, 4]))),
    [1 - 4 * 128 * 127, 2 + 4 * 127 ** 2, -2, 4],
  );
  const [least, most] = [-2 * 128 * 127, 2 * 127 ** 2];
  assertEquals(
    asInts(i16x8.relaxedDot(signed, sevenBits)),
    [least & 0xffff | least << 16, most & 0xffff | most << 16, -5 & 0xffff, 0],
  );
  const halves = floats([0.5, 1.5, -2.5, 3.75]);
  assertEquals(asFloats(f32x4.nearest(halves)), [0, 2, -2, 4]);
  assertEquals(asInts(i32x4.relaxedTruncF32x4S(halves)), [0, 1, -2, 3]);
});

Deno.test("Bits are chosen by a mask, bytes by their index", () => {
  const [a, b] = [ints([1, 2, 3, 4]), ints([5, 6, 7, 8])];
  assertEquals(asInts(v128.and(a, b)), [1, 2, 3, 0]);
  assertEquals(asInts(v128.or(a, b)), [5, 6, 7, 12]);
  assertEquals(asInts(v128.xor(a, b)), [4, 4, 4, 12]);
  assertEquals(asInts(v128.andNot(b, a)), [4, 4, 4, 8]);
  const anyTrue = (vector: Expr<"v128">) =>
    assemble(0, "i32", () => [result(v128.anyTrue(vector))])();
  assertEquals([v128.zero, ints([0, 0, 8, 0])].map(anyTrue), [0, 1]);
  assertEquals(asInts(v128.bitselect(a, b, ints([-1, 0, 3, 0]))), [1, 6, 7, 8]);
  assertEquals(asInts(permute(a, b, [3, 4, 0, 7])), [4, 5, 1, 8]);
  assertEquals(asInts(splatLane(b, 2)), [7, 7, 7, 7]);
  const indices = v128.constBytes(Array.from({ length: 16 }, (_, i) => i < 8 ? 15 - i : 0x80));
  const bytes = v128.constBytes(Array.from({ length: 16 }, (_, i) => 10 + i));
  assertEquals(
    [...evaluate(i8x16.relaxedSwizzle(bytes, indices))],
    [25, 24, 23, 22, 21, 20, 19, 18, 0, 0, 0, 0, 0, 0, 0, 0],
  );
});

Deno.test("Vectors are transposed, added up and searched across their lanes", () => {
  const memory = newMemory();
  const rows = [floats([1, 2, 3, 4]), floats([5, 6, 7, 8]), floats([9, 10, 11, 12])];
  assemble(0, "none", (scope) => {
    const vectors = scope.locals("v128", 4);
    const [sum, largest] = scope.locals("v128", 2) as [typeof vectors[0], typeof vectors[0]];
    return [
      vectors.map((vector, i) => set(vector!, rows[i] ?? floats([13, 14, 15, 16]))),
      set(sum!, vectors[1]!),
      sumLanes(sum!),
      set(largest!, floats([3, 9, -1, 8])),
      maxLanes(largest!),
      transpose(vectors, scope.locals("v128", 4)),
      vectors.map((vector, i) => v128.store(i32.const(16 * i), vector!)),
      v128.store(i32.const(64), sum!),
      v128.store(i32.const(80), largest!),
    ];
  }, memory)();
  assertEquals(
    [...new Float32Array(memory.buffer, 0, 24)],
    [1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 4, 8, 12, 16, 26, 26, 26, 26, 9, 9, 9, 9],
  );
});
