/** Which layers of a decoder see a window only, and how wide it is: each family says it another way. */

import type { Fields } from "./fields.ts";
import { SIZE_RULES } from "./model_config.ts";

/** How a family's config.json says it. */
export type WindowRule =
  | { readonly kind: "none" }
  /** `use_sliding_window` and `sliding_window`, for the layers from `max_window_layers` on. */
  | { readonly kind: "from a layer on" }
  /** `sliding_window` for every layer; null: for none. */
  | { readonly kind: "all layers"; readonly window: number }
  /**
   * `sliding_window`, for all layers but every `sliding_window_pattern`-th one. The defaults are
   * given here.
   */
  | { readonly kind: "all but every n-th"; readonly window: number; readonly period: number };

/** One a layer: how many keys a query sees, itself included. 0: all of them. */
export function readWindows(fields: Fields, layerCount: number, rule: WindowRule): number[] {
  switch (rule.kind) {
    case "none":
      return new Array<number>(layerCount).fill(0);
    case "from a layer on":
      return windowsFrom(fields, layerCount);
    case "all layers":
      return new Array<number>(layerCount).fill(readWindow(fields, rule.window));
    case "all but every n-th":
      return windowsByPattern(fields, layerCount, rule);
    default:
      return rule satisfies never;
  }
}

/** Layer i of a period slides unless it is the last one. */
export function slidesInPeriod(layer: number, period: number): boolean {
  return (layer + 1) % period !== 0;
}

/** 0 where the file says null. */
function readWindow(fields: Fields, fallback: number): number {
  if (fields.isNull("sliding_window")) return 0;
  return fields.integer("sliding_window", SIZE_RULES.positions, fallback);
}

/** An explicit list wins; else the layers from max_window_layers on slide, if the model slides at all. */
function windowsFrom(fields: Fields, layerCount: number): number[] {
  const slides = fields.boolean("use_sliding_window", false);
  const window = slides ? readWindow(fields, 4096) : 0;
  const listed = readLayerTypes(fields, layerCount);
  if (listed === undefined) {
    const first = fields.integer("max_window_layers", { min: 0 }, 28);
    return Array.from({ length: layerCount }, (_, layer) => layer >= first ? window : 0);
  }
  const right = "sliding layers need use_sliding_window true and a sliding_window";
  return windowsOfTypes(fields, listed, { window, right });
}

/** An explicit list wins; else a number n, or letters of which L slides, repeated over the layers. */
function windowsByPattern(
  fields: Fields,
  layerCount: number,
  rule: { readonly window: number; readonly period: number },
): number[] {
  const window = readWindow(fields, rule.window);
  const listed = readLayerTypes(fields, layerCount);
  if (listed !== undefined) {
    return windowsOfTypes(fields, listed, {
      window,
      right: "sliding layers need a sliding_window",
    });
  }
  const key = "sliding_window_pattern";
  const pattern = fields.value(key);
  if (window === 0) return new Array<number>(layerCount).fill(0);
  if (typeof pattern === "string") {
    if (!/^[LG]+$/.test(pattern)) {
      fields.fail(key, 'it must be a number of layers or letters, each "L" or "G"');
    }
    return Array.from(
      { length: layerCount },
      (_, layer) => pattern[layer % pattern.length] === "L" ? window : 0,
    );
  }
  const period = fields.integer(key, SIZE_RULES.layerCount, rule.period);
  return Array.from(
    { length: layerCount },
    (_, layer) => slidesInPeriod(layer, period) ? window : 0,
  );
}

/** Of each layer whether it slides; undefined where the file has no list. */
function readLayerTypes(fields: Fields, layerCount: number): boolean[] | undefined {
  const layerTypes = fields.value("layer_types");
  if (layerTypes === undefined) return undefined;
  if (!Array.isArray(layerTypes) || layerTypes.length !== layerCount) {
    fields.fail("layer_types", `it must be a list of num_hidden_layers ${layerCount} names`);
  }
  return layerTypes.map((layerType) => {
    if (layerType === "full_attention") return false;
    if (layerType === "sliding_attention") return true;
    fields.fail("layer_types", 'each must be "full_attention" or "sliding_attention"');
  });
}

function windowsOfTypes(
  fields: Fields,
  slides: readonly boolean[],
  { window, right }: { readonly window: number; readonly right: string },
): number[] {
  if (window === 0 && slides.includes(true)) fields.fail("layer_types", right);
  return slides.map((slidesHere) => slidesHere ? window : 0);
}
