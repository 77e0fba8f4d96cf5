/** What this CPU's relaxed instructions do, where that is up to the CPU. */

import { type Expr, ModuleBuilder, result } from "./assembler.ts";
import { f32x4, i16x8, i32x4, v128 } from "./instructions.ts";

/**
 * Whether relaxed multiply-add rounds once here.
 *
 * It may also round the product first; kernels are as deterministic then, but their last bits are
 * those of another numerics class.
 */
export function checkFusedMultiplyAdd(): boolean {
  const module = new ModuleBuilder();
  const madd = module.define("madd", ["f32", "f32", "f32"], "f32", (_scope, a, b, c) => [
    result(
      f32x4.extractLane(f32x4.relaxedMadd(f32x4.splat(a), f32x4.splat(b), f32x4.splat(c)), 0),
    ),
  ]);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const compute = module.link(memory).get(madd);
  // (1 + 2^-12)² is 1 + 2^-11 + 2^-24; rounded, the last term is lost.
  const a = 1 + 2 ** -12;
  return compute(a, a, -(1 + 2 ** -11)) === 2 ** -24;
}

const SIGNED_BYTES = [-128, -127, -64, -1, 0, 1, 63, 127];
const SEVEN_BITS = [0, 1, 2, 64, 126, 127];
const ADDENDS = [0, 1, -1, 2 ** 30, -(2 ** 30)];

/** c + Σ a[i] · b[i] of four signed bytes and four of 0…127. */
export type ByteDotOfFour = (a: number[], b: number[], c: number) => number;

/** Whether both relaxed dot products add exact products of signed bytes and bytes of 0…127. */
export function checkByteDot(): boolean {
  const module = new ModuleBuilder();
  const define = (
    name: string,
    dot: (a: Expr<"v128">, b: Expr<"v128">, c: Expr<"v128">) => Expr<"v128">,
  ) =>
    module.define(name, ["i32", "i32", "i32"], "i32", (_scope, a, b, c) => [
      result(i32x4.extractLane(dot(i32x4.splat(a), i32x4.splat(b), i32x4.splat(c)), 3)),
    ]);
  const ones = v128.constI32(0x00010001);
  const quads = define("quads", i32x4.relaxedDotAdd);
  const pairs = define(
    "pairs",
    (a, b, c) => i32x4.add(i32x4.dotI16x8S(i16x8.relaxedDot(a, b), ones), c),
  );
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const linked = module.link(memory);
  return [linked.get(quads), linked.get(pairs)].every((compute) =>
    isExactDot((a, b, c) => compute(lane(a), lane(b), c))
  );
}

/** Four bytes as one 32-bit lane. */
function lane(bytes: readonly number[]): number {
  return bytes.reduce((word, byte, i) => word | (byte & 255) << (8 * i), 0);
}

/**
 * Whether a dot product is what it should be, at all extremes and in all places.
 *
 * One that is not takes the wrong side for the signed one, or cuts sums of two or of four products
 * to 16 bits on the way, at either end.
 */
export function isExactDot(dot: ByteDotOfFour): boolean {
  const pairs = SIGNED_BYTES.flatMap((x) => SEVEN_BITS.map((y) => [x, y] as const));
  // One pair four times, beside another one twice, in turns, and three times.
  const mixes = [[], [2, 3], [1, 3], [1, 2, 3]];
  return pairs.every((one, i) =>
    pairs.every((other, j) =>
      mixes.every((others) => {
        const chosen = [0, 1, 2, 3].map((at) => others.includes(at) ? other : one);
        const [a, b] = [chosen.map(([x]) => x), chosen.map(([, y]) => y)];
        const c = ADDENDS[(i + j) % ADDENDS.length] as number;
        return dot(a, b, c) === chosen.reduce((sum, [x, y]) => sum + x * y, c);
      })
    )
  );
}
