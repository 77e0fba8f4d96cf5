/** One growable shared memory with an allocator: a bank of HBM. */

import { DeviceMemoryError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";

const PAGE_BYTES = 65_536;
const PAGE_COUNT_MAX = 65_536;

/** Most bytes that a bank can hold: what a 32-bit WebAssembly memory addresses. */
export const BANK_BYTES_MAX: number = PAGE_BYTES * PAGE_COUNT_MAX;

/** Every allocation starts at a multiple of this. */
export const HBM_ALIGNMENT = 64;

/** The bytes that an allocation takes. */
export function allocatedBytes(sizeBytes: number): number {
  return Math.ceil(sizeBytes / HBM_ALIGNMENT) * HBM_ALIGNMENT;
}

interface Region {
  address: number;
  sizeBytes: number;
}

/**
 * Hands out the addresses of one memory. Address 0 is never handed out. Fresh memory reads as zero
 * and costs the host nothing until it is touched.
 */
export class MemoryBank {
  /** What kernels run against. Its `buffer` changes when the memory grows: do not keep it. */
  readonly memory: WebAssembly.Memory;
  /** Most bytes it can hold. */
  readonly bytesMax: number;
  #top = HBM_ALIGNMENT;
  #usedBytes = 0;
  readonly #free: Region[] = []; // sorted by address, never adjacent
  readonly #live = new Map<number, number>();

  /** A bank of at most so many bytes. */
  constructor(bytesMax: number) {
    this.bytesMax = bytesMax;
    this.memory = new WebAssembly.Memory({ initial: 1, maximum: PAGE_COUNT_MAX, shared: true });
  }

  /** Bytes in use. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** The address of `sizeBytes`, a multiple of {@linkcode HBM_ALIGNMENT}; undefined if it is full. */
  allocate(sizeBytes: number, what: string): number | undefined {
    const size = allocatedBytes(sizeBytes);
    const address = this.#takeFree(size) ?? this.#extend(size, what);
    if (address === undefined) return undefined;
    this.#live.set(address, size);
    this.#usedBytes += size;
    return address;
  }

  /** Gives an allocation back. */
  free(address: number): void {
    const sizeBytes = this.#live.get(address);
    invariant(sizeBytes !== undefined, `Nothing is allocated at ${address}`);
    this.#live.delete(address);
    this.#usedBytes -= sizeBytes;
    const after = this.#free.findIndex((region) => region.address > address);
    const index = after < 0 ? this.#free.length : after;
    this.#free.splice(index, 0, { address, sizeBytes });
    this.#join(index);
    if (index > 0) this.#join(index - 1);
  }

  #takeFree(sizeBytes: number): number | undefined {
    const index = this.#free.findIndex((region) => region.sizeBytes >= sizeBytes);
    const region = this.#free[index];
    if (region === undefined) return undefined;
    const { address } = region;
    region.address += sizeBytes;
    region.sizeBytes -= sizeBytes;
    if (region.sizeBytes === 0) this.#free.splice(index, 1);
    return address;
  }

  #extend(sizeBytes: number, what: string): number | undefined {
    const address = this.#top;
    const end = address + sizeBytes;
    if (end > this.bytesMax) return undefined;
    const missing = Math.ceil((end - this.memory.buffer.byteLength) / PAGE_BYTES);
    if (missing > 0) {
      try {
        this.memory.grow(missing);
      } catch (cause) {
        throw new DeviceMemoryError(
          `Cannot allocate ${sizeBytes} bytes for ${what}: the host refused`,
          { cause },
        );
      }
    }
    this.#top = end;
    return address;
  }

  /** Merges a free region with the one behind it where they touch. */
  #join(index: number): void {
    const region = this.#free[index];
    const next = this.#free[index + 1];
    if (region === undefined || next === undefined) return;
    if (region.address + region.sizeBytes !== next.address) return;
    region.sizeBytes += next.sizeBytes;
    this.#free.splice(index + 1, 1);
  }
}
