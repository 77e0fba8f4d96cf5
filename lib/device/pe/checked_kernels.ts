/**
 * A fast kernel table that is checked against the plain one, kernel by kernel, before it is used.
 *
 * ```text
 * first call of a shape ─▶ a small problem of that shape, by both tables
 *                            ├─ same answer ─▶ the fast kernel, from now on
 *                            └─ another one ─▶ the plain one for its whole family, on all elements
 * ```
 *
 * A kernel is code made here for the instructions that V8 makes of it: where either goes wrong on
 * some machine, answers would be wrong without a word.
 */

import type { ActivationType } from "../activations.ts";
import { isQuantized, type WeightFormat } from "../block_formats.ts";
import type {
  AddArgs,
  AddBiasArgs,
  AttentionArgs,
  ClampedSwigluArgs,
  EmbedArgs,
  GeluArgs,
  GeluTanhMultiplyArgs,
  KernelTable,
  KvDtype,
  LayerNormArgs,
  MatmulArgs,
  RmsNormArgs,
  RopeArgs,
  ScaleArgs,
  SiluMultiplyArgs,
  SoftcapArgs,
  SumExpertsArgs,
  SummarizeRowsArgs,
  TakeRowsArgs,
  WriteKvArgs,
} from "../kernel_table.ts";
import type { RouteArgs } from "../routing.ts";
import { CHECK_ROWS_MAX, type CheckArea } from "./check_area.ts";
import {
  addBiasProblem,
  addProblem,
  attentionProblem,
  clampedSwigluProblem,
  embedProblem,
  geluProblem,
  geluTanhMultiplyProblem,
  layerNormProblem,
  matmulProblem,
  type Problem,
  rmsNormProblem,
  ropeProblem,
  scaleProblem,
  siluMultiplyProblem,
  softcapProblem,
  sumExpertsProblem,
  summarizeRowsProblem,
  takeRowsProblem,
  type Tolerance,
  type Words,
  writeKvProblem,
} from "./check_problems.ts";
import type { KernelFamily, Refusals } from "./refusals.ts";

/** The two tables, and what checking them takes. */
export interface CheckedKernelsOptions {
  readonly fast: KernelTable;
  readonly plain: KernelTable;
  readonly area: CheckArea;
  readonly refusals: Refusals;
  readonly fusesMultiplyAdd: boolean;
}

/** Kernels that stand and fall together. */
interface Family {
  readonly name: KernelFamily;
  readonly index: number;
  /** Numbers of the shapes that were seen. */
  readonly shapes: Set<number>;
}

/** The families of one weight format; the products by type of activations. */
interface FormatFamilies {
  readonly embed: Family;
  readonly matmul: Readonly<Record<ActivationType, Family>>;
}

type SetProblem = (area: CheckArea) => Problem;

/** A problem that was solved by both tables, and what is right. */
interface Check {
  readonly family: Family;
  readonly set: SetProblem;
  readonly expected: readonly Int32Array<ArrayBuffer>[];
}

/** What the fast table made of a problem. */
interface Solution {
  readonly outputs: readonly Int32Array<ArrayBuffer>[];
  readonly accuracy: Problem["accuracy"];
}

/** An operation that is the same for all shapes. */
const ANY_SHAPE = 0;

/** The table of an element: fast where the fast kernel is right, plain where it is not. */
export class CheckedKernels implements KernelTable {
  readonly #options: CheckedKernelsOptions;
  readonly #refusals: Refusals;
  readonly #checks: Check[] = [];
  readonly #byFormat = new Map<WeightFormat, FormatFamilies>();
  readonly #byKvDtype = new Map<
    KvDtype,
    { readonly writeKv: Family; readonly attention: Family }
  >();
  readonly #takeRows: Family;
  readonly #rmsNorm: Family;
  readonly #layerNorm: Family;
  readonly #addBias: Family;
  readonly #add: Family;
  readonly #siluMultiply: Family;
  readonly #geluTanhMultiply: Family;
  readonly #clampedSwiglu: Family;
  readonly #sumExperts: Family;
  readonly #scale: Family;
  readonly #softcap: Family;
  readonly #gelu: Family;
  readonly #rope: Family;
  readonly #summarizeRows: Family;
  #last: KernelTable;

  constructor(options: CheckedKernelsOptions) {
    this.#options = options;
    this.#refusals = options.refusals;
    this.#last = options.fast;
    this.#takeRows = this.#family("takeRows");
    this.#rmsNorm = this.#family("rmsNorm");
    this.#layerNorm = this.#family("layerNorm");
    this.#addBias = this.#family("addBias");
    this.#add = this.#family("add");
    this.#siluMultiply = this.#family("siluMultiply");
    this.#geluTanhMultiply = this.#family("geluTanhMultiply");
    this.#clampedSwiglu = this.#family("clampedSwiglu");
    this.#sumExperts = this.#family("sumExperts");
    this.#scale = this.#family("scale");
    this.#softcap = this.#family("softcap");
    this.#gelu = this.#family("gelu");
    this.#rope = this.#family("rope");
    this.#summarizeRows = this.#family("summarizeRows");
  }

  /** Who computed the last call. */
  get backend(): KernelTable["backend"] {
    return this.#last.backend;
  }

  get compiledCount(): number {
    return this.#options.fast.compiledCount;
  }

  /**
   * Makes all checks again. The first ones ran on code that V8 had compiled in haste; by the end of
   * the warm-up it has optimised what is used much, and that is other code.
   */
  recheck(): void {
    for (const { family, set, expected } of this.#checks) {
      if (this.#refusals.has(family.index)) continue;
      const found = this.#solve(family, set);
      if (found !== undefined) this.#compare(family, found, expected);
    }
  }

  embed(args: EmbedArgs): void {
    const { format, k } = args.weight;
    this.#table(this.#ofFormat(format).embed, k, embedProblem, args).embed(args);
  }

  takeRows(args: TakeRowsArgs): void {
    this.#table(this.#takeRows, ANY_SHAPE, takeRowsProblem, args).takeRows(args);
  }

  rmsNorm(args: RmsNormArgs): void {
    this.#table(this.#rmsNorm, args.width, rmsNormProblem, args).rmsNorm(args);
  }

  layerNorm(args: LayerNormArgs): void {
    this.#table(this.#layerNorm, args.width, layerNormProblem, args).layerNorm(args);
  }

  matmul(args: MatmulArgs): void {
    if (args.rowCount <= CHECK_ROWS_MAX) {
      this.#matmul(args);
      return;
    }
    for (let row = 0; row < args.rowCount; row += CHECK_ROWS_MAX) {
      this.#matmul({
        ...args,
        rowCount: Math.min(CHECK_ROWS_MAX, args.rowCount - row),
        x: args.x + 4 * row * args.xStride,
        out: args.out + 4 * row * args.outStride,
      });
    }
  }

  addBias(args: AddBiasArgs): void {
    this.#table(this.#addBias, ANY_SHAPE, addBiasProblem, args).addBias(args);
  }

  add(args: AddArgs): void {
    this.#table(this.#add, ANY_SHAPE, addProblem, args).add(args);
  }

  siluMultiply(args: SiluMultiplyArgs): void {
    this.#table(this.#siluMultiply, ANY_SHAPE, siluMultiplyProblem, args).siluMultiply(args);
  }

  geluTanhMultiply(args: GeluTanhMultiplyArgs): void {
    this.#table(this.#geluTanhMultiply, ANY_SHAPE, geluTanhMultiplyProblem, args)
      .geluTanhMultiply(args);
  }

  /** Both tables run the same code. */
  route(args: RouteArgs): void {
    this.#last = this.#options.fast;
    this.#last.route(args);
  }

  clampedSwiglu(args: ClampedSwigluArgs): void {
    this.#table(this.#clampedSwiglu, ANY_SHAPE, clampedSwigluProblem, args).clampedSwiglu(args);
  }

  sumExperts(args: SumExpertsArgs): void {
    this.#table(this.#sumExperts, ANY_SHAPE, sumExpertsProblem, args).sumExperts(args);
  }

  scale(args: ScaleArgs): void {
    this.#table(this.#scale, ANY_SHAPE, scaleProblem, args).scale(args);
  }

  softcap(args: SoftcapArgs): void {
    this.#table(this.#softcap, ANY_SHAPE, softcapProblem, args).softcap(args);
  }

  gelu(args: GeluArgs): void {
    this.#table(this.#gelu, ANY_SHAPE, geluProblem, args).gelu(args);
  }

  rope(args: RopeArgs): void {
    this.#table(this.#rope, args.rotaryDim, ropeProblem, args).rope(args);
  }

  writeKv(args: WriteKvArgs): void {
    const { dtype, headDim } = args.cache;
    this.#table(this.#ofKvDtype(dtype).writeKv, headDim, writeKvProblem, args).writeKv(args);
  }

  attention(args: AttentionArgs): void {
    const { dtype, headDim, kvHeads } = args.cache;
    const { rowBlocks, softcap = 0, sinks = null } = args;
    // Rows that see the same keys have a kernel of their own; so have caps and sinks.
    const kind = rowBlocks !== undefined ? 4 : (softcap === 0 ? 0 : 1) + (sinks === null ? 0 : 2);
    const shape = (headDim * 1024 + args.heads / kvHeads) * 5 + kind;
    this.#table(this.#ofKvDtype(dtype).attention, shape, attentionProblem, args).attention(args);
  }

  summarizeRows(args: SummarizeRowsArgs): void {
    this.#table(this.#summarizeRows, ANY_SHAPE, summarizeRowsProblem, args).summarizeRows(args);
  }

  #matmul(args: MatmulArgs): void {
    if (args.rowCount <= 0) return;
    const { activations = "f32", weight: { format, k } } = args;
    // Which kernels multiply depends on the number of rows, in ways that are their table's own.
    const shape = k * CHECK_ROWS_MAX + args.rowCount - 1;
    const family = this.#ofFormat(format).matmul[activations];
    this.#table(family, shape, this.#matmulProblem, args).matmul(args);
  }

  readonly #matmulProblem = (area: CheckArea, args: MatmulArgs): Problem =>
    matmulProblem(area, args, this.#options.fusesMultiplyAdd);

  /** The table that is to compute a call. */
  #table<Args extends object>(
    family: Family,
    shape: number,
    problem: (area: CheckArea, args: Args) => Problem,
    args: Args,
  ): KernelTable {
    if (!family.shapes.has(shape)) {
      family.shapes.add(shape);
      if (!this.#refusals.has(family.index)) {
        const given = { ...args }; // the caller may use its object again for another call
        this.#checkFirst(family, (area) => problem(area, given));
      }
    }
    const { fast, plain } = this.#options;
    this.#last = this.#refusals.has(family.index) ? plain : fast;
    return this.#last;
  }

  /** Asks the twin only if the shape needs a kernel that no other shape of the family has brought. */
  #checkFirst(family: Family, set: SetProblem): void {
    const { fast } = this.#options;
    const isFirst = family.shapes.size === 1;
    const compiledCount = fast.compiledCount;
    const found = this.#solve(family, set);
    if (found === undefined || (!isFirst && fast.compiledCount === compiledCount)) return;
    const expected = this.#solveByTwin(set);
    this.#checks.push({ family, set, expected });
    this.#compare(family, found, expected);
  }

  /** What the fast table leaves; a kernel that cannot run is refused. */
  #solve(family: Family, set: SetProblem): Solution | undefined {
    const { fast, area } = this.#options;
    area.reset();
    const { run, outputs, accuracy } = set(area);
    try {
      run(fast);
    } catch (error) {
      const isTheirs = error instanceof WebAssembly.RuntimeError ||
        error instanceof WebAssembly.CompileError;
      if (!isTheirs) throw error;
      this.#refuse(family, `fails: ${error.message}`);
      return undefined;
    }
    return { outputs: read(area, outputs), accuracy };
  }

  #solveByTwin(set: SetProblem): Int32Array<ArrayBuffer>[] {
    const { plain, area } = this.#options;
    area.reset();
    const { run, runTwin = run, outputs } = set(area);
    runTwin(plain);
    return read(area, outputs);
  }

  #compare(
    family: Family,
    { outputs, accuracy }: Solution,
    expected: readonly Int32Array<ArrayBuffer>[],
  ): void {
    for (const [i, output] of outputs.entries()) {
      const wrong = firstDifference(output, expected[i] as Int32Array<ArrayBuffer>, accuracy);
      if (wrong === undefined) continue;
      this.#refuse(family, `gives ${wrong.found} where ${wrong.expected} is right`);
      return;
    }
  }

  #refuse(family: Family, fault: string): void {
    const { fast, plain, refusals } = this.#options;
    const operation = family.name.split(".")[0];
    refusals.refuse(
      family.index,
      `computed by ${plain.backend}.${operation}, as ${fast.backend}.${operation} ${fault}`,
    );
  }

  #ofFormat(format: WeightFormat): FormatFamilies {
    let families = this.#byFormat.get(format);
    if (families === undefined) {
      const f32 = this.#family(`matmul.${format}`);
      families = {
        embed: this.#family(`embed.${format}`),
        // Only quantised weights have kernels for integer activations.
        matmul: isQuantized(format)
          ? {
            f32,
            i16: this.#family(`matmul.${format}.i16`),
            i8: this.#family(`matmul.${format}.i8`),
          }
          : { f32, i16: f32, i8: f32 },
      };
      this.#byFormat.set(format, families);
    }
    return families;
  }

  #ofKvDtype(dtype: KvDtype): { readonly writeKv: Family; readonly attention: Family } {
    let families = this.#byKvDtype.get(dtype);
    if (families === undefined) {
      families = {
        writeKv: this.#family(`writeKv.${dtype}`),
        attention: this.#family(`attention.${dtype}`),
      };
      this.#byKvDtype.set(dtype, families);
    }
    return families;
  }

  #family(name: KernelFamily): Family {
    return { name, index: this.#refusals.indexOf(name), shapes: new Set() };
  }
}

function read(area: CheckArea, outputs: readonly Words[]): Int32Array<ArrayBuffer>[] {
  return outputs.map(({ address, count }) => area.words(address, count));
}

/** The first word that is not what it should be. */
function firstDifference(
  found: Int32Array<ArrayBuffer>,
  expected: Int32Array<ArrayBuffer>,
  accuracy: "bits" | Tolerance,
): { readonly found: number; readonly expected: number } | undefined {
  const values = new Float32Array(found.buffer);
  const right = new Float32Array(expected.buffer);
  for (let i = 0; i < found.length; i++) {
    if (found[i] === expected[i]) continue;
    const [value, want] = [values[i] as number, right[i] as number];
    // Written so that NaN is wrong.
    const isClose = accuracy !== "bits" &&
      Math.abs(value - want) <= accuracy.absolute + accuracy.relative * Math.abs(want);
    if (!isClose) return { found: value, expected: want };
  }
  return undefined;
}
