/** Kernels over two banks: the contract, with weights, keys and values in the second one. */

import { BankedKernels, stageBytes } from "../../lib/device/pe/banked_kernels.ts";
import { createReferenceKernels } from "../../lib/device/pe/reference.ts";
import { createSimdKernels, simdScratchBytes } from "../../lib/device/simd/simd.ts";
import type { KernelTable, KvCacheLayer, PanelWeight } from "../../lib/device/kernel_table.ts";
import { CONTRACT_LIMITS, kernelContract } from "./kernel_contract.ts";

const PAGE_BYTES = 65_536;
const SCRATCH_BYTES = simdScratchBytes(CONTRACT_LIMITS);

/** So few rows go to the second bank at once that most calls take several turns. */
const ROWS_AT_ONCE = 4;
/** The widest queries of the suite have more heads than its limits speak of. */
const STAGE_BYTES = stageBytes({ kMax: 8192 }, ROWS_AT_ONCE);

/** A table of two banks; `twin` keeps in the second one what the caller has in the first. */
function createBanked(
  first: WebAssembly.Memory,
  create: (memory: WebAssembly.Memory, scratch: number) => KernelTable,
): KernelTable {
  const size = first.buffer.byteLength;
  const pages = Math.ceil((size + SCRATCH_BYTES + STAGE_BYTES) / PAGE_BYTES) + 1;
  const second = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const scratch = Math.ceil(size / 64) * 64;
  const stage = Math.ceil((scratch + SCRATCH_BYTES) / 64) * 64;
  const table = new BankedKernels([
    { memory: first, table: create(first, 0), stage: { address: 0, sizeBytes: 0 } },
    {
      memory: second,
      table: create(second, scratch),
      stage: { address: stage, sizeBytes: STAGE_BYTES },
    },
  ]);
  const there = new Uint8Array(second.buffer, 0, size);
  const here = new Uint8Array(first.buffer);
  /** Runs a call that finds the operands in the second bank. */
  const inSecond = (run: () => void, isWritten = false): void => {
    there.set(here);
    run();
    if (isWritten) here.set(there);
  };
  const weightThere = (weight: PanelWeight) => ({ ...weight, address: weight.address + 2 ** 32 });
  const cacheThere = (cache: KvCacheLayer) => {
    return { ...cache, keys: cache.keys + 2 ** 32, values: cache.values + 2 ** 32 };
  };
  return {
    backend: table.backend,
    get compiledCount() {
      return table.compiledCount;
    },
    embed: (args) => inSecond(() => table.embed({ ...args, weight: weightThere(args.weight) })),
    matmul: (args) => inSecond(() => table.matmul({ ...args, weight: weightThere(args.weight) })),
    writeKv: (args) =>
      inSecond(() => table.writeKv({ ...args, cache: cacheThere(args.cache) }), true),
    attention: (args) =>
      inSecond(() => table.attention({ ...args, cache: cacheThere(args.cache) })),
    takeRows: (args) => table.takeRows(args),
    rmsNorm: (args) => table.rmsNorm(args),
    layerNorm: (args) => table.layerNorm(args),
    addBias: (args) => table.addBias(args),
    add: (args) => table.add(args),
    siluMultiply: (args) => table.siluMultiply(args),
    geluTanhMultiply: (args) => table.geluTanhMultiply(args),
    scale: (args) => table.scale(args),
    softcap: (args) => table.softcap(args),
    gelu: (args) => table.gelu(args),
    rope: (args) => table.rope(args),
    route: (args) => table.route(args),
    clampedSwiglu: (args) => table.clampedSwiglu(args),
    sumExperts: (args) => table.sumExperts(args),
    summarizeRows: (args) => table.summarizeRows(args),
  };
}

kernelContract(
  "SIMD, two banks",
  (memory) =>
    createBanked(
      memory,
      (bank, address) => createSimdKernels(bank, { address, sizeBytes: SCRATCH_BYTES }),
    ),
  { reservedBytes: SCRATCH_BYTES },
);

kernelContract(
  "reference, two banks",
  (memory) => createBanked(memory, createReferenceKernels),
);
