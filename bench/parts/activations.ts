/** Which activations a quantised format is judged with: the fastest whose perplexity still counts. */

import { isQuantized } from "../../lib/device/block_formats.ts";
import type { LLMOptions } from "../../mod.ts";
import { Contestant } from "../contestants/contestant.ts";
import { Seeds, speed, type Task } from "../contestants/speed.ts";
import type { ModelFormat } from "../models/model_files.ts";
import type { PartOptions } from "./part.ts";

/** How activations meet quantised weights; "float32" is the default. */
export type ActivationKind = NonNullable<LLMOptions["activationDtype"]>;

/** Perplexity may be that much worse than exact arithmetic's. */
const PERPLEXITY_TOLERANCE = 0.005;

/** What was chosen. */
export interface Choice {
  readonly kind: ActivationKind;
  /** Perplexity over that of exact arithmetic. */
  readonly perplexity: number;
  /** Why figures do not count. */
  readonly fault?: string;
}

/** Perplexity of a contestant's arithmetic over the exact one of the same file. */
export class PerplexityCheck {
  readonly #options: PartOptions;
  readonly #exact = new Map<ModelFormat, number>();

  constructor(options: PartOptions) {
    this.#options = options;
  }

  /** Asks a contestant that has the format loaded as it is measured. */
  async ratio(engine: Contestant, format: ModelFormat): Promise<number> {
    const ids = await this.#options.models.goldenTokens();
    const { nll } = await engine.ask({ ask: "likelihood", ids });
    return Math.exp(nll - await this.#exactNll(format, ids));
  }

  async #exactNll(format: ModelFormat, ids: readonly number[]): Promise<number> {
    const known = this.#exact.get(format);
    if (known !== undefined) return known;
    await using exact = Contestant.ours();
    await exact.ask({
      ask: "load",
      path: await this.#options.models.path(format),
      kvType: "f32",
    });
    const { nll } = await exact.ask({ ask: "likelihood", ids });
    this.#exact.set(format, nll);
    return nll;
  }
}

/** Why a perplexity does not count, if it does not. */
export function perplexityFault(ratio: number): string | undefined {
  if (ratio <= 1 + PERPLEXITY_TOLERANCE) return undefined;
  return `perplexity is ${(100 * (ratio - 1)).toFixed(2)} % above exact arithmetic's`;
}

/** An engine with one kind of activations, and its perplexity. */
export interface Variant {
  readonly kind: ActivationKind;
  readonly engine: Contestant;
  readonly threads: number;
  readonly perplexity: number;
}

/** Starts the variants of a format; whoever gives the stack ends them. */
export async function startVariants(
  stack: AsyncDisposableStack,
  { options, format, check }: {
    readonly options: PartOptions;
    readonly format: ModelFormat;
    readonly check: PerplexityCheck;
  },
): Promise<readonly [Variant, ...Variant[]]> {
  const start = async (kind: ActivationKind): Promise<Variant> => {
    const engine = stack.use(Contestant.ours());
    const { threads } = await engine.ask({
      ask: "load",
      path: await options.models.path(format),
      kvType: "bf16",
      options: kind === "float32" ? {} : { activationDtype: kind },
    });
    const perplexity = await check.ratio(engine, format);
    return { kind, engine, threads: threads[0] as number, perplexity };
  };
  const variants: [Variant, ...Variant[]] = [await start("float32")];
  if (!isQuantized(format)) return variants;
  for (const kind of ["int16", "int8"] as const) variants.push(await start(kind));
  return variants;
}

/** The fastest integer variant whose perplexity counts; if none counts, the fastest; else float32. */
export async function chooseVariant(
  variants: readonly [Variant, ...Variant[]],
  task: Task,
  seeds: Seeds,
): Promise<Variant> {
  const [exact, ...integers] = variants;
  const counted = integers.filter(({ perplexity }) => perplexityFault(perplexity) === undefined);
  let best = { speed: -Infinity, variant: exact };
  for (const variant of counted.length > 0 ? counted : integers) {
    const setting = { seeds, threads: variant.threads };
    // The first run of a shape compiles what later ones find compiled.
    await speed(variant.engine, task, setting);
    const tried = await speed(variant.engine, task, setting);
    if (tried > best.speed) best = { speed: tried, variant };
  }
  return best.variant;
}

/** Which activations a task of a format is judged with. */
export async function bestActivations(
  options: PartOptions,
  format: ModelFormat,
  task: Task,
): Promise<Choice> {
  await using stack = new AsyncDisposableStack();
  const check = new PerplexityCheck(options);
  const variants = await startVariants(stack, { options, format, check });
  const { kind, perplexity } = await chooseVariant(variants, task, new Seeds());
  const fault = perplexityFault(perplexity);
  return { kind, perplexity, ...(fault === undefined ? {} : { fault }) };
}
