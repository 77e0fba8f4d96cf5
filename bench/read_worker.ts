/** A thread that reads its memory from end to end when asked. */

import { doWhile, increment, ModuleBuilder, result, set } from "../lib/device/simd/assembler.ts";
import { i32, i32x4, v128 } from "../lib/device/simd/instructions.ts";

/** How much to read, how often. */
export interface ReadRequest {
  readonly bytes: number;
  readonly passes: number;
}

interface Scope {
  onmessage: ((event: MessageEvent<ReadRequest>) => void) | null;
  postMessage(message: unknown): void;
}

const LOADS = 16;

/** read(from, to): ORs every 16 bytes together, so that nothing can be left out. */
function readModule(): ModuleBuilder {
  const module = new ModuleBuilder();
  module.define("read", ["i32", "i32"], "i32", (scope, from, to) => {
    const sums = scope.locals("v128", 8);
    const sum = (i: number) => sums[i % sums.length] as (typeof sums)[number];
    return [
      doWhile(
        i32.ltU(from, to),
        ...Array.from(
          { length: LOADS },
          (_, i) => set(sum(i), v128.or(sum(i), v128.load(from, i * 16))),
        ),
        increment(from, LOADS * 16),
      ),
      result(i32x4.extractLane(
        sums.map((local) => local as Parameters<typeof v128.or>[0]).reduce((a, b) => v128.or(a, b)),
        0,
      )),
    ];
  });
  return module;
}

const scope = globalThis as unknown as Scope;
let memory: WebAssembly.Memory | undefined;
let read: ((from: number, to: number) => number) | undefined;

scope.onmessage = ({ data: { bytes, passes } }) => {
  if (memory === undefined || read === undefined) {
    const pages = Math.ceil(bytes / 65536);
    memory = new WebAssembly.Memory({ initial: pages, maximum: 65536, shared: true });
    new Uint32Array(memory.buffer).fill(1);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(readModule().bytes()), {
      env: { memory },
    });
    read = instance.exports.read as (from: number, to: number) => number;
  }
  for (let i = 0; i < passes; i++) read(0, bytes);
  scope.postMessage("done");
};
