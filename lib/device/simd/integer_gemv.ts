/** One row of integer activations times a quantised weight: panels stream by once. */

import { PANEL_COLUMNS, QUANT_BLOCK, type QuantizedFormat } from "../block_formats.ts";
import { type Body, doWhile, increment, ModuleBuilder, set, setI32 } from "./assembler.ts";
import { HalfExpander } from "./half_expander.ts";
import { f32x4, i32, i32x4, v128 } from "./instructions.ts";
import { blockBytes, CodeLoader, createGroupDot, GROUPS, halvesIn } from "./integer_dot.ts";
import { type IntegerCodes, rowBlock } from "./integer_rows.ts";
import { splatLane } from "./lanes.ts";

/** (panel, row, out, panelCount): consecutive panels into consecutive runs of eight outputs. */
export type IntegerGemv = (panel: number, row: number, out: number, panelCount: number) => void;

/** Compiles the GEMV of one format and k. */
export function compileIntegerGemv(
  memory: WebAssembly.Memory,
  format: QuantizedFormat,
  codes: IntegerCodes,
  k: number,
): IntegerGemv {
  const module = new ModuleBuilder();
  const gemv = module.define("integerGemv", ["i32", "i32", "i32", "i32"], "none", (
    scope,
    panel,
    row,
    out,
    panelCount,
  ) => {
    const totals = halvesIn(scope);
    const sums = halvesIn(scope);
    const weights = halvesIn(scope);
    const scales = halvesIn(scope);
    const minima = halvesIn(scope);
    const biases = halvesIn(scope);
    const activations = scope.local("v128");
    const bias = scope.local("v128");
    const rowAt = scope.local("i32");
    const rowEnd = scope.local("i32");
    const halves = new HalfExpander(scope, 1);
    const loader = new CodeLoader(scope, format);
    const dot = createGroupDot(scope, format, codes);
    const layout = rowBlock(codes.bits, 1);
    const groupsLoaded = 16 / layout.groupBytes;

    const multiplyGroup = (group: number): Body => [
      group % groupsLoaded === 0
        ? [set(activations, v128.load(rowAt, group * layout.groupBytes))]
        : [],
      loader.load(weights, panel, group),
      codes.bias === 0
        ? []
        : weights.map((weight, half) =>
          set(biases[half]!, i32x4.relaxedDotAdd(weight, bias, biases[half]!))
        ),
      dot.prepare(weights),
      dot.add(sums, activations, group % groupsLoaded * layout.groupBytes / 4),
    ];
    const begin: Body = [0, 1].map((half) => [
      set(
        sums[half]!,
        format === "q4_0" ? v128.load32Splat(rowAt, layout.offsets) : v128.zero,
      ),
      codes.bias === 0 ? [] : [set(biases[half]!, v128.zero)],
    ]);
    const end: Body = [
      codes.bias === 0 ? [] : sums.map((sum, half) => set(sum, i32x4.sub(sum, biases[half]!))),
      halves.expandScales(scales, weights[0], panel, 0),
      set(activations, v128.load(rowAt, layout.scales)),
      totals.map((total, half) =>
        set(
          total,
          f32x4.relaxedMadd(
            f32x4.convertI32x4S(sums[half]!),
            f32x4.mul(scales[half]!, splatLane(activations, 0)),
            total,
          ),
        )
      ),
      format !== "q4_1" ? [] : [
        halves.expandScales(minima, weights[0], panel, 16),
        totals.map((total, half) =>
          set(total, f32x4.relaxedMadd(minima[half]!, splatLane(activations, 2), total))
        ),
      ],
    ];
    return [
      halves.setup,
      loader.setup,
      dot.setup,
      codes.bias === 0 ? [] : [set(bias, v128.constI32(0x01010101 * codes.bias))],
      doWhile(
        panelCount,
        totals.map((total) => set(total, v128.zero)),
        setI32(rowAt, row),
        setI32(rowEnd, i32.add(row, k / QUANT_BLOCK * layout.bytes)),
        doWhile(
          i32.ne(rowAt, rowEnd),
          begin,
          Array.from({ length: GROUPS }, (_, group) => multiplyGroup(group)),
          end,
          increment(panel, blockBytes(format)),
          increment(rowAt, layout.bytes),
        ),
        totals.map((total, half) => v128.store(out, total, 16 * half)),
        increment(out, 4 * PANEL_COLUMNS),
        increment(panelCount, -1),
      ),
    ];
  });
  return module.link(memory).get(gemv);
}
