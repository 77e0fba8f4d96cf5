/** One row of integer activations times a quantised weight: panels stream by once. */

import { PANEL_COLUMNS, panelBytes, QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
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
import { FiniteHalfExpander, HalfExpander, type ScaleExpander } from "./half_expander.ts";
import { f32x4, i32, i32x4, v128 } from "./instructions.ts";
import {
  blockBytes,
  CodeLoader,
  createGroupDot,
  type GroupDot,
  GROUPS,
  type Halves,
  halvesIn,
} from "./integer_dot.ts";
import { type IntegerCodes, rowBlock } from "./integer_rows.ts";
import { splatLane } from "./lanes.ts";

/** (panel, row, out, panelCount): consecutive panels into consecutive runs of eight outputs. */
export type IntegerGemv = (panel: number, row: number, out: number, panelCount: number) => void;

type GemvRef = FunctionRef<readonly ["i32", "i32", "i32", "i32"], "none">;

/** What the functions of a module are made for. */
interface Shape {
  readonly format: QuantizedFormat;
  readonly codes: IntegerCodes;
  readonly k: number;
}

/** Compiles the GEMV of one format and k. */
export function compileIntegerGemv(memory: WebAssembly.Memory, shape: Shape): IntegerGemv {
  const module = new ModuleBuilder();
  // A panel with a scale that is not finite is done again by the exact one.
  const exact = defineGemv(module, "exact", shape, (scope) => ({
    expander: new HalfExpander(scope, 1),
    begin: [],
    end: () => [],
  }));
  const gemv = defineGemv(module, "gemv", shape, (scope) => {
    const expander = new FiniteHalfExpander(scope);
    return {
      expander,
      begin: expander.reset,
      end: (panel, row, out) => [
        when(expander.found, [
          call(exact, i32.sub(panel, panelBytes(shape.format, shape.k)), row, out, 1),
        ]),
      ],
    };
  });
  return module.link(memory).get(gemv);
}

/** How scales are expanded, and what that takes before and after each panel. */
interface Scales {
  readonly expander: ScaleExpander;
  readonly begin: Body;
  end(panel: Local<"i32">, row: Local<"i32">, out: Local<"i32">): Body;
}

function defineGemv(
  module: ModuleBuilder,
  functionName: string,
  { format, codes, k }: Shape,
  scalesIn: (scope: FunctionScope) => Scales,
): GemvRef {
  return module.define(functionName, ["i32", "i32", "i32", "i32"], "none", (
    scope,
    panel,
    row,
    out,
    panelCount,
  ) => {
    const totals = halvesIn(scope);
    const rowAt = scope.local("i32");
    const rowEnd = scope.local("i32");
    const scales = scalesIn(scope);
    const layout = rowBlock(codes, 1);
    const sum = new BlockSum(scope, { format, codes, k });
    const finish = new BlockFinish(scope, format, scales.expander);
    return [
      scales.expander.setup,
      sum.setup,
      doWhile(
        panelCount,
        scales.begin,
        totals.map((total) => set(total, v128.zero)),
        setI32(rowAt, row),
        setI32(rowEnd, i32.add(row, k / QUANT_BLOCK * layout.bytes)),
        doWhile(
          i32.ne(rowAt, rowEnd),
          sum.add(panel, rowAt),
          finish.add(totals, sum.sums, panel, v128.load(rowAt, layout.scales)),
          increment(panel, blockBytes(format)),
          increment(rowAt, layout.bytes),
        ),
        totals.map((total, half) => v128.store(out, total, 16 * half)),
        scales.end(panel, row, out),
        increment(out, 4 * PANEL_COLUMNS),
        increment(panelCount, -1),
      ),
    ];
  });
}

/** Emits the integer sums of a block. */
class BlockSum {
  readonly setup: Body;
  /** After `add`. */
  readonly sums: Halves;
  readonly #codes: IntegerCodes;
  readonly #loader: CodeLoader;
  readonly #dot: GroupDot;
  readonly #weights: Halves;
  readonly #biases: Halves;
  readonly #bias: Local<"v128">;
  readonly #planes: readonly { readonly sums: Halves; readonly activations: Local<"v128"> }[];

  constructor(scope: FunctionScope, { format, codes }: Shape) {
    this.#codes = codes;
    this.#planes = Array.from(
      { length: codes.planes },
      () => ({ sums: halvesIn(scope), activations: scope.local("v128") }),
    );
    this.sums = this.#planes[0]!.sums;
    this.#weights = halvesIn(scope);
    this.#biases = halvesIn(scope);
    this.#bias = scope.local("v128");
    this.#loader = new CodeLoader(scope, format);
    this.#dot = createGroupDot(scope, format, codes);
    this.setup = [
      this.#loader.setup,
      this.#dot.setup,
      codes.bias === 0 ? [] : [set(this.#bias, v128.constI32(0x01010101 * codes.bias))],
    ];
  }

  /** sums = the products of the block at `panel` and the row's at `row`. */
  add(panel: Local<"i32">, row: Local<"i32">): Body {
    const { shift } = this.#codes;
    const [first, second] = this.#planes;
    return [
      this.#planes.map(({ sums }) => sums.map((sum) => set(sum, v128.zero))),
      this.#onBias((bias) => set(bias, v128.zero)),
      Array.from({ length: GROUPS }, (_, group) => this.#addGroup(panel, row, group)),
      first!.sums.map((sum) => set(sum, this.#dot.total(sum))),
      this.#onBias((bias, half) => set(this.sums[half], i32x4.sub(this.sums[half], bias))),
      second === undefined
        ? []
        : this.sums.map((sum, half) =>
          set(sum, i32x4.add(i32x4.shl(sum, shift), this.#dot.total(second.sums[half]!)))
        ),
    ];
  }

  /** Weights are loaded once for both planes; the first one has the bias. */
  #addGroup(panel: Local<"i32">, row: Local<"i32">, group: number): Body {
    const { groupBytes, planeBytes } = rowBlock(this.#codes, 1);
    const lane = group * groupBytes % 16 / 4;
    return [
      this.#loader.load(this.#weights, panel, group),
      this.#onBias((bias, half) =>
        set(bias, i32x4.relaxedDotAdd(this.#weights[half], this.#bias, bias))
      ),
      this.#dot.prepare(this.#weights),
      this.#planes.map(({ sums, activations }, plane) => [
        lane > 0 ? [] : [
          set(activations, v128.load(row, plane * planeBytes + group * groupBytes)),
        ],
        this.#dot.add(sums, (part) => splatLane(activations, lane + part)),
      ]),
    ];
  }

  /** What a bias takes part in has to be taken off again. */
  #onBias(emit: (bias: Local<"v128">, half: 0 | 1) => Body[number]): Body {
    if (this.#codes.bias === 0) return [];
    return [emit(this.#biases[0], 0), emit(this.#biases[1], 1)];
  }
}

/** Emits what turns the sums of a block into floats. */
class BlockFinish {
  readonly #format: QuantizedFormat;
  readonly #expander: ScaleExpander;
  readonly #expanded: Halves;
  readonly #spare: Local<"v128">;
  /** The row's scale, offset and sum. */
  readonly #row: Local<"v128">;

  constructor(scope: FunctionScope, format: QuantizedFormat, expander: ScaleExpander) {
    this.#format = format;
    this.#expander = expander;
    this.#expanded = halvesIn(scope);
    this.#spare = scope.local("v128");
    this.#row = scope.local("v128");
  }

  /** totals += the sums under the scales of the block at `panel` and of the row at `row`. */
  add(totals: Halves, sums: Halves, panel: Local<"i32">, row: Expr<"v128">): Body {
    const [expanded, spare] = [this.#expanded, this.#spare];
    const addProducts = (a: (half: number) => Expr<"v128">, b: (half: number) => Expr<"v128">) =>
      totals.map((total, half) => set(total, f32x4.relaxedMadd(a(half), b(half), total)));
    const [scale, offset, sum] = [0, 1, 2].map((lane) => splatLane(this.#row, lane)) as [
      Expr<"v128">,
      Expr<"v128">,
      Expr<"v128">,
    ];
    return [
      set(this.#row, row),
      this.#expander.expandScales(expanded, spare, panel, 0),
      this.#format !== "q4_0" ? [] : [
        set(spare, offset),
        sums.map((sum) => set(sum, i32x4.add(sum, spare))),
      ],
      set(spare, scale),
      addProducts(
        (half) => f32x4.convertI32x4S(sums[half]!),
        (half) => f32x4.mul(expanded[half]!, spare),
      ),
      this.#format !== "q4_1" ? [] : [
        this.#expander.expandScales(expanded, spare, panel, 16),
        set(spare, sum),
        addProducts((half) => expanded[half]!, () => spare),
      ],
    ];
  }
}
