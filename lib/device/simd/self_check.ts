/** What this CPU's relaxed instructions do, where that is up to the CPU. */

import { ModuleBuilder, result } from "./assembler.ts";
import { f32x4, i32, i32x4, v128 } from "./instructions.ts";

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

/**
 * Whether the relaxed dot product adds four exact products of signed bytes and bytes of 0…127.
 *
 * Where it does not, it takes the wrong side for the signed one, or sums of two or of four products
 * are cut to 16 bits on the way, in either direction: the extremes in all places show it.
 */
export function checkByteDot(): boolean {
  const module = new ModuleBuilder();
  const dot = module.define("dot", [], "none", () => [
    v128.store(
      i32.const(48),
      i32x4.relaxedDotAdd(
        v128.load(i32.const(0)),
        v128.load(i32.const(16)),
        v128.load(i32.const(32)),
      ),
    ),
  ]);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const compute = module.link(memory).get(dot);
  const a = new Int8Array(memory.buffer, 0, 16);
  const b = new Int8Array(memory.buffer, 16, 16);
  const c = new Int32Array(memory.buffer, 32, 4);
  const sums = new Int32Array(memory.buffer, 48, 4);
  const isExact = (): boolean => {
    compute();
    return sums.every((sum, lane) => {
      const products = [0, 1, 2, 3].map((i) => a[4 * lane + i]! * b[4 * lane + i]!);
      return sum === products.reduce((total, product) => total + product, c[lane]!);
    });
  };
  const pairs = SIGNED_BYTES.flatMap((x) => SEVEN_BITS.map((y) => [x, y] as const));
  return pairs.every(([x, y], i) =>
    pairs.every(([otherX, otherY], j) => {
      // Lanes hold one pair four times, then twice, in turns, and once beside the other.
      const others = [[], [2, 3], [1, 3], [3]];
      for (let at = 0; at < 16; at++) {
        const isOther = others[at >> 2]!.includes(at & 3);
        a[at] = isOther ? otherX : x;
        b[at] = isOther ? otherY : y;
      }
      c.fill(ADDENDS[(i + j) % ADDENDS.length]!);
      return isExact();
    })
  );
}
