/** Which class of numerics this CPU belongs to. */

import { ModuleBuilder, result } from "./assembler.ts";
import { f32x4 } from "./instructions.ts";

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
