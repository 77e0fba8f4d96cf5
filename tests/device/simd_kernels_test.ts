/** The fast kernels: the contract of every backend, and what is theirs alone. */

import { createSimdKernels, simdScratchBytes } from "../../lib/device/simd/simd.ts";
import { CONTRACT_LIMITS, kernelContract } from "./kernel_contract.ts";

const SCRATCH_BYTES = simdScratchBytes(CONTRACT_LIMITS);

kernelContract(
  "simd",
  (memory) => createSimdKernels(memory, { address: 0, sizeBytes: SCRATCH_BYTES }),
  { reservedBytes: SCRATCH_BYTES },
);
