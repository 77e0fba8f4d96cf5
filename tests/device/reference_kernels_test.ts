/** The plain kernels, by the contract that every backend keeps. */

import { assertEquals } from "@std/assert";
import { createReferenceKernels } from "../../lib/device/pe/reference.ts";
import { kernelContract } from "./kernel_contract.ts";

kernelContract("reference", createReferenceKernels);

Deno.test("Reference kernels follow a memory that grows, and run over a plain buffer", () => {
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 2 });
  const grown = createReferenceKernels(memory);
  memory.grow(1);
  const buffer = new ArrayBuffer(2 * 65536);
  for (
    const [kernels, bytes] of [
      [grown, memory.buffer],
      [createReferenceKernels({ buffer }), buffer],
    ] as const
  ) {
    const x = new Float32Array(bytes, 65536, 4).fill(1);
    new Float32Array(bytes, 65536 + 64, 4).set([1, 2, 3, 4]);
    const range = { rowCount: 1, columnStart: 0, columnEnd: 4 };
    kernels.addBias({ ...range, x: 65536, xStride: 4, bias: 65536 + 64 });
    assertEquals([...x], [2, 3, 4, 5]);
  }
});
