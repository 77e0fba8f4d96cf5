/**
 * The exact GELU, x · Φ(x), as a rational function: the definition that both backends follow.
 *
 * With h(x) = x · erf(x / √2) it is (x + h(x)) / 2. h is even: below {@linkcode GELU_LINEAR_FROM}
 * it is y · P(y) / Q(y) with y = x², beyond that it is |x|. Everything is computed in float64 and
 * rounded to float32 once, without fused steps: so it is the same on every machine. The
 * coefficients are a minimax fit of h on [0, 6] by Lawson's iteration; the largest error of the
 * GELU is 6e-9, a tenth of what rounding 1 to float32 may cost.
 */

/** From this y = x² on, h is |x|: there erf differs from 1 by less than 2e-9. */
export const GELU_LINEAR_FROM = 36;

/** P, lowest power first. */
export const GELU_P: readonly number[] = [
  0.797884645314699,
  0.06778742595284998,
  0.009918068715443347,
  0.000375122033576251,
  1.9156128395759127e-5,
  1.700187786666832e-7,
];

/** Q, lowest power first. */
export const GELU_Q: readonly number[] = [
  1,
  0.25162612986852423,
  0.029367255116857602,
  0.002050982398595689,
  9.080794987032884e-5,
  2.4714868083987204e-6,
  4.8334769366674094e-9,
];
