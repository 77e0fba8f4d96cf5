/** The kernel table a processing element runs: by name, over the device's memory. */

import type { KernelLimits, KernelTable } from "../kernel_table.ts";
import { checkFusedMultiplyAdd } from "../simd/self_check.ts";
import { createSimdKernels, simdScratchBytes } from "../simd/simd.ts";
import { createReferenceKernels } from "./reference.ts";

/** The backends there are. */
export type BackendName = "simd" | "reference";

/** A processing element's own working memory inside HBM. */
export interface Scratch {
  readonly address: number;
  readonly sizeBytes: number;
}

/** Makes one element's kernels. */
export function createKernels(
  backend: BackendName,
  memory: WebAssembly.Memory,
  scratch: Scratch,
): KernelTable {
  switch (backend) {
    case "simd":
      return createSimdKernels(memory, scratch);
    case "reference":
      return createReferenceKernels(memory);
    default:
      return backend satisfies never;
  }
}

/** Bytes of scratch memory an element needs for kernels up to these shapes. */
export function scratchBytes(limits: KernelLimits): number {
  return simdScratchBytes(limits);
}

/** Names the arithmetic this machine computes with: equal classes give equal bits. */
export function numericsClass(): string {
  return checkFusedMultiplyAdd() ? "f32-fused" : "f32-unfused";
}
