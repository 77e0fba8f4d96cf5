/** The kernel table a processing element runs: by name, over the device's memory. */

import { invariant } from "../../base/invariant.ts";
import type { KernelLimits, KernelTable } from "../kernel_table.ts";
import { checkFusedMultiplyAdd } from "../simd/self_check.ts";
import { createSimdKernels, simdScratchBytes } from "../simd/simd.ts";
import { BankedKernels, stageBytes } from "./banked_kernels.ts";
import { CheckArea, checkAreaBytes } from "./check_area.ts";
import { CheckedKernels } from "./checked_kernels.ts";
import { createReferenceKernels } from "./reference.ts";
import { type KernelFamily, Refusals } from "./refusals.ts";
import { spoilKernels } from "./spoiled_kernels.ts";

/** The backends there are. */
export type BackendName = "simd" | "reference";

/** Part of a bank of HBM. */
interface Region {
  readonly address: number;
  readonly sizeBytes: number;
}

/** A processing element's own working memory inside a bank of HBM. */
export interface Scratch {
  /** What kernels work with. */
  readonly kernels: Region;
  /** Where they are checked. */
  readonly checks: Region;
  /** Where rows are brought from the first bank: all of it is untouched in that itself. */
  readonly stage: Region;
}

/** Which kernels an element makes, and what all elements of its device share. */
export interface KernelOptions {
  readonly backend: BackendName;
  /** The verdicts on kernels: the buffer of a {@linkcode Refusals}. */
  readonly refusals: SharedArrayBuffer;
  /** For tests: kernels that are to be wrong. */
  readonly spoiled?: KernelFamily | undefined;
}

/** Kernels of one element, and how to check them once more where they are checked at all. */
export interface ElementKernels {
  readonly table: KernelTable;
  recheck(): void;
}

/** Makes one element's kernels, over banks in which it has a scratch each. */
export function createKernels(
  options: KernelOptions,
  memories: readonly WebAssembly.Memory[],
  scratches: readonly Scratch[],
): ElementKernels {
  const banks = memories.map((memory, index) => {
    const scratch = scratches[index];
    invariant(scratch !== undefined, `An element has no scratch in bank ${index}`);
    return { memory, stage: scratch.stage, ...createBankKernels(options, memory, scratch) };
  });
  const [first, ...others] = banks;
  invariant(first !== undefined, "A device has no memory");
  if (others.length === 0) return first;
  return {
    table: new BankedKernels(banks),
    recheck: () => banks.forEach((bank) => bank.recheck()),
  };
}

function createBankKernels(
  options: KernelOptions,
  memory: WebAssembly.Memory,
  scratch: Scratch,
): ElementKernels {
  const { backend, spoiled } = options;
  const plain = createReferenceKernels(memory);
  switch (backend) {
    case "simd": {
      const simd = createSimdKernels(memory, scratch.kernels);
      const table = new CheckedKernels({
        fast: spoiled === undefined ? simd : spoilKernels(simd, memory, spoiled),
        plain,
        area: new CheckArea(memory, scratch.checks),
        refusals: new Refusals(options.refusals),
        fusesMultiplyAdd: checkFusedMultiplyAdd(),
      });
      return { table, recheck: () => table.recheck() };
    }
    case "reference":
      return { table: plain, recheck: () => {} };
    default:
      return backend satisfies never;
  }
}

const ALIGNMENT = 64;

/** Bytes of scratch memory an element needs in a bank for kernels up to these shapes. */
export function scratchBytes(limits: KernelLimits): number {
  const { stage } = divideScratch(0, limits);
  return stage.address + stage.sizeBytes;
}

/** Divides memory of {@linkcode scratchBytes} bytes; the address is one inside a bank. */
export function divideScratch(address: number, limits: KernelLimits): Scratch {
  const sizeBytes = simdScratchBytes(limits);
  const checks = { address: address + sizeBytes, sizeBytes: checkAreaBytes(limits) };
  const stage = Math.ceil((checks.address + checks.sizeBytes) / ALIGNMENT) * ALIGNMENT;
  return {
    kernels: { address, sizeBytes },
    checks,
    stage: { address: stage, sizeBytes: stageBytes(limits) },
  };
}

/** Names the arithmetic this machine computes with: equal classes give equal bits. */
export function numericsClass(): string {
  return checkFusedMultiplyAdd() ? "f32-fused" : "f32-unfused";
}
