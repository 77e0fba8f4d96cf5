/** A thread that reads its memory from end to end when asked. */

import { compileRead } from "../kernels/loops.ts";

/** How much to read. */
export interface ReadRequest {
  readonly bytes: number;
}

interface Scope {
  onmessage: ((event: MessageEvent<ReadRequest>) => void) | null;
  postMessage(message: unknown): void;
}

const scope = globalThis as unknown as Scope;
let read: ((start: number, end: number) => number) | undefined;

scope.onmessage = ({ data: { bytes } }) => {
  if (read === undefined) {
    const pages = Math.ceil(bytes / 65536);
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
    new Uint32Array(memory.buffer).fill(1);
    read = compileRead(memory);
  }
  read(0, bytes);
  scope.postMessage("done");
};
