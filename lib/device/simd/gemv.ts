/** One row of activations times a weight: panels stream by once and are expanded in registers. */

import {
  type Body,
  call,
  doWhile,
  type Expr,
  type FunctionRef,
  type FunctionScope,
  increment,
  type Local,
  ModuleBuilder,
  set,
  setI32,
  when,
} from "./assembler.ts";
import { isBlocked, PANEL_COLUMNS, type WeightFormat } from "../block_formats.ts";
import { f32x4, i32, v128 } from "./instructions.ts";
import { splatLane } from "./lanes.ts";
import type { PanelDecoder } from "./decoder.ts";
import { createDecoder, createSumDecoder, mayDoubt } from "./panel_decoder.ts";
import { invariant } from "../../base/invariant.ts";

/** (panel, x, out, panelCount): consecutive panels into consecutive runs of eight outputs. */
export type Gemv = (panel: number, x: number, out: number, panelCount: number) => void;

/** How the k-th activation gets into all four lanes. */
export type ActivationLoad = "shuffle" | "splat";

/**
 * Compiles the GEMV of one format and k.
 *
 * `activations`: "shuffle" loads four and spreads them in registers, which saves loads; "splat"
 * loads each one into all lanes, which spares the vector units where decoding keeps them busy.
 */
export function compileGemv(
  memory: WebAssembly.Memory,
  format: WeightFormat,
  k: number,
  activations: ActivationLoad = preferredLoad(format),
): Gemv {
  const module = new ModuleBuilder();
  const shape = { k, activations };
  // A faster decoder hands a panel that it is in doubt about to the exact one.
  const exact = mayDoubt(format)
    ? defineGemv(module, "exact", { ...shape, decoder: (scope) => createDecoder(format, scope) })
    : undefined;
  const gemv = defineGemv(module, "gemv", {
    ...shape,
    // What a turn of the loop costs besides weighs less the more k it covers.
    decoder: (scope) => createSumDecoder(format, scope, k % LONG_STEP_K === 0 ? LONG_STEP_K : 8),
    exact,
  });
  return module.link(memory).get(gemv);
}

/** Where expansion takes many vector operations, loads are what is left over. */
function preferredLoad(format: WeightFormat): ActivationLoad {
  return isBlocked(format) ? "splat" : "shuffle";
}

/** k of a turn of the loop, where k is a multiple of it. */
const LONG_STEP_K = 32;

type GemvRef = FunctionRef<readonly ["i32", "i32", "i32", "i32"], "none">;

function defineGemv(
  module: ModuleBuilder,
  functionName: string,
  options: {
    readonly decoder: (scope: FunctionScope) => PanelDecoder;
    readonly k: number;
    readonly activations: ActivationLoad;
    /** What does a panel again that the decoder is in doubt about. */
    readonly exact?: GemvRef | undefined;
  },
): GemvRef {
  const { k, activations, exact } = options;
  return module.define(functionName, ["i32", "i32", "i32", "i32"], "none", (
    scope,
    weight,
    x,
    out,
    panelCount,
  ) => {
    const decoder = options.decoder(scope);
    const panelSize = k / decoder.stepK * decoder.stepBytes;
    invariant(k > 0 && k % decoder.stepK === 0, `A weight has k ${k}`);
    // Two vectors of columns for each of the four classes of k.
    const sums = scope.locals("v128", 8);
    const four = scope.local("v128");
    const activation = scope.local("v128");
    const xAt = scope.local("i32");
    const xEnd = scope.local("i32");

    const { factor = 1 } = decoder;
    const factors = scope.local("v128");
    const scaled = (value: Expr<"v128">) => factor === 1 ? value : f32x4.mul(value, factors);
    // An activation that the factor makes infinite leaves no sum finite.
    const notFinite = factor === 1 ? 0 : hasNotFinite(sums[0]!, sums[1]!);

    // Which four are in `four` where the code being emitted stands.
    let loaded = -1;
    const loadActivation = (i: number): Body => {
      if (activations === "splat") return [set(activation, scaled(v128.load32Splat(xAt, 4 * i)))];
      const fourStart = i - i % 4;
      const isLoaded = fourStart === loaded;
      loaded = fourStart;
      return [
        isLoaded ? [] : [set(four, scaled(v128.load(xAt, 4 * fourStart)))],
        set(activation, splatLane(four, i % 4)),
      ];
    };
    const multiply = (i: number): Body => {
      const weights = decoder.weights(weight, i);
      const low = sums[2 * (i % 4)] as Local<"v128">;
      const high = sums[2 * (i % 4) + 1] as Local<"v128">;
      return [
        loadActivation(i),
        weights.prepare,
        set(low, f32x4.relaxedMadd(weights.low, activation, low)),
        set(high, f32x4.relaxedMadd(weights.high, activation, high)),
      ];
    };

    return [
      decoder.setup,
      set(factors, v128.constF32(factor)),
      doWhile(
        panelCount,
        sums.map((sum) => set(sum, v128.zero)),
        decoder.doubt?.reset ?? [],
        setI32(xAt, x),
        setI32(xEnd, i32.add(x, 4 * k)),
        doWhile(
          i32.ne(xAt, xEnd),
          decoder.begin(weight),
          decoder.order.map((i) => multiply(i)),
          increment(weight, decoder.stepBytes),
          increment(xAt, 4 * decoder.stepK),
        ),
        [0, 1].map((half) => [
          set(sums[half] as Local<"v128">, addClasses(sums, half)),
          v128.store(out, sums[half] as Local<"v128">, 16 * half),
        ]),
        decoder.doubt === undefined || exact === undefined
          ? []
          : when(i32.or(decoder.doubt.found, notFinite), [
            call(exact, i32.sub(weight, panelSize), x, out, 1),
          ]),
        increment(out, 4 * PANEL_COLUMNS),
        increment(panelCount, -1),
      ),
    ];
  });
}

/** ((s0 + s1) + s2) + s3 of one half of the columns. */
function addClasses(sums: readonly Local<"v128">[], half: number): Expr<"v128"> {
  const [s0, s1, s2, s3] = [0, 1, 2, 3].map((c) => sums[2 * c + half] as Local<"v128">) as [
    Local<"v128">,
    Local<"v128">,
    Local<"v128">,
    Local<"v128">,
  ];
  return f32x4.add(f32x4.add(f32x4.add(s0, s1), s2), s3);
}

/** 1 if there is an infinity or NaN in two vectors. */
function hasNotFinite(a: Expr<"v128">, b: Expr<"v128">): Expr<"i32"> {
  // x − x is NaN for those, and 0 for all others.
  const difference = f32x4.add(f32x4.sub(a, a), f32x4.sub(b, b));
  return v128.anyTrue(f32x4.ne(difference, difference));
}
