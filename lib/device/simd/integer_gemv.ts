/** One row of integer activations times a quantised weight: panels stream by once. */

import { PANEL_COLUMNS, panelBytes, QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
import {
  type Body,
  call,
  doWhile,
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
          finish.add(totals, sum.sums, panel, { at: rowAt, ...layout }),
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
  readonly sums: Halves;
  readonly #shape: Shape;
  readonly #loader: CodeLoader;
  readonly #dot: ReturnType<typeof createGroupDot>;
  readonly #weights: Halves;
  readonly #biases: Halves;
  readonly #bias: Local<"v128">;
  readonly #activations: Local<"v128">;

  constructor(scope: FunctionScope, shape: Shape) {
    const { format, codes } = shape;
    this.#shape = shape;
    this.sums = halvesIn(scope);
    this.#weights = halvesIn(scope);
    this.#biases = halvesIn(scope);
    this.#bias = scope.local("v128");
    this.#activations = scope.local("v128");
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
    const { format, codes } = this.#shape;
    const { offsets } = rowBlock(codes, 1);
    const offset = v128.load32Splat(row, offsets);
    const isOffset = format === "q4_0";
    const start = isOffset && codes.planes === 1 ? offset : v128.zero;
    const carry = (sum: Local<"v128">) => i32x4.shl(sum, codes.shift);
    return [
      this.sums.map((sum) => set(sum, start)),
      this.#onBias((bias) => set(bias, v128.zero)),
      this.#addPlane(panel, row, 0),
      this.#onBias((bias, half) => set(this.sums[half], i32x4.sub(this.sums[half], bias))),
      codes.planes === 1 ? [] : [
        this.sums.map((sum) => set(sum, isOffset ? i32x4.add(carry(sum), offset) : carry(sum))),
        this.#addPlane(panel, row, 1),
      ],
    ];
  }

  /** sums += the products with one plane of the codes; the first one has the bias. */
  #addPlane(panel: Local<"i32">, row: Local<"i32">, plane: number): Body {
    const { groupBytes, planeBytes } = rowBlock(this.#shape.codes, 1);
    const groupsLoaded = 16 / groupBytes;
    const lane = (group: number) => group % groupsLoaded * groupBytes / 4;
    const codesAt = (group: number) => plane * planeBytes + group * groupBytes;
    return Array.from({ length: GROUPS }, (_, group) => [
      this.#loader.load(this.#weights, panel, group),
      plane > 0
        ? []
        : this.#onBias((bias, half) =>
          set(bias, i32x4.relaxedDotAdd(this.#weights[half], this.#bias, bias))
        ),
      this.#dot.prepare(this.#weights),
      lane(group) > 0 ? [] : [set(this.#activations, v128.load(row, codesAt(group)))],
      this.#dot.add(this.sums, (part) => splatLane(this.#activations, lane(group) + part)),
    ]);
  }

  /** What a bias takes part in has to be taken off again. */
  #onBias(emit: (bias: Local<"v128">, half: 0 | 1) => Body[number]): Body {
    if (this.#shape.codes.bias === 0) return [];
    return [emit(this.#biases[0], 0), emit(this.#biases[1], 1)];
  }
}

/** Emits what turns the sums of a block into floats. */
class BlockFinish {
  readonly #format: QuantizedFormat;
  readonly #expander: ScaleExpander;
  readonly #expanded: Halves;
  readonly #spare: Local<"v128">;

  constructor(scope: FunctionScope, format: QuantizedFormat, expander: ScaleExpander) {
    this.#format = format;
    this.#expander = expander;
    this.#expanded = halvesIn(scope);
    this.#spare = scope.local("v128");
  }

  add(
    totals: Halves,
    sums: Halves,
    panel: Local<"i32">,
    row: { readonly at: Local<"i32">; readonly scales: number; readonly sums: number },
  ): Body {
    const [expanded, spare] = [this.#expanded, this.#spare];
    const addTo = (half: 0 | 1, a: typeof spare | ReturnType<typeof v128.load>, b: typeof a) =>
      set(totals[half], f32x4.relaxedMadd(a, b, totals[half]));
    const products = ([0, 1] as const).map((half) =>
      addTo(half, f32x4.convertI32x4S(sums[half]), f32x4.mul(expanded[half], spare))
    );
    return [
      this.#expander.expandScales(expanded, spare, panel, 0),
      set(spare, v128.load32Splat(row.at, row.scales)),
      products,
      this.#format !== "q4_1" ? [] : [
        this.#expander.expandScales(expanded, spare, panel, 16),
        set(spare, v128.load32Splat(row.at, row.sums)),
        ([0, 1] as const).map((half) => addTo(half, expanded[half], spare)),
      ],
    ];
  }
}
