/** For tests: a kernel table of which one family computes something else. */

import type { AttentionArgs, KernelTable, WriteKvArgs } from "../kernel_table.ts";
import type { KernelFamily } from "./refusals.ts";

/** Flips a bit of the first word that calls of a family write: of a float32, half its size. */
export function spoilKernels(
  kernels: KernelTable,
  memory: WebAssembly.Memory,
  family: KernelFamily,
): KernelTable {
  const [operation, kind] = family.split(".");
  const flip = (address: number) => {
    const cells = new Int32Array(memory.buffer, address, 1);
    cells[0] = (cells[0] as number) ^ (1 << 22);
  };
  /** Runs an operation, then spoils its output if it is the one, of the kind that is meant. */
  const spoiled = <Args>(
    name: keyof KernelTable,
    run: (args: Args) => void,
    output: (args: Args) => number,
    kindOf: (args: Args) => string | undefined = () => undefined,
  ) =>
  (args: Args): void => {
    run(args);
    if (name === operation && kindOf(args) === kind) flip(output(args));
  };
  return {
    backend: kernels.backend,
    get compiledCount() {
      return kernels.compiledCount;
    },
    embed: spoiled("embed", (a) => kernels.embed(a), (a) => a.out, (a) => a.weight.format),
    takeRows: spoiled("takeRows", (a) => kernels.takeRows(a), (a) => a.out),
    rmsNorm: spoiled("rmsNorm", (a) => kernels.rmsNorm(a), (a) => a.out),
    layerNorm: spoiled("layerNorm", (a) => kernels.layerNorm(a), (a) => a.x),
    matmul: spoiled("matmul", (a) => kernels.matmul(a), (a) => a.out, (a) => a.weight.format),
    addBias: spoiled("addBias", (a) => kernels.addBias(a), (a) => a.x),
    add: spoiled("add", (a) => kernels.add(a), (a) => a.x),
    siluMultiply: spoiled("siluMultiply", (a) => kernels.siluMultiply(a), (a) => a.gate),
    geluTanhMultiply: spoiled(
      "geluTanhMultiply",
      (a) => kernels.geluTanhMultiply(a),
      (a) => a.gate,
    ),
    route: (args) => kernels.route(args),
    clampedSwiglu: spoiled("clampedSwiglu", (a) => kernels.clampedSwiglu(a), (a) => a.gate),
    sumExperts: spoiled("sumExperts", (a) => kernels.sumExperts(a), (a) => a.out),
    scale: spoiled("scale", (a) => kernels.scale(a), (a) => a.x),
    softcap: spoiled("softcap", (a) => kernels.softcap(a), (a) => a.x),
    gelu: spoiled("gelu", (a) => kernels.gelu(a), (a) => a.x),
    rope: spoiled("rope", (a) => kernels.rope(a), (a) => a.x),
    writeKv: spoiled(
      "writeKv",
      (a: WriteKvArgs) => kernels.writeKv(a),
      (a) => a.cache.keys,
      (a) => a.cache.dtype,
    ),
    attention: spoiled(
      "attention",
      (a: AttentionArgs) => kernels.attention(a),
      (a) => a.out,
      (a) => a.cache.dtype,
    ),
    summarizeRows: spoiled("summarizeRows", (a) => kernels.summarizeRows(a), (a) => a.out),
  };
}
