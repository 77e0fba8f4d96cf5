/**
 * HBM: one address space over one or several banks, each a shared memory of 32-bit addresses.
 *
 * ```text
 * bank 0                      bank 1              bank 2
 * activations, tables, keys   matrices …          matrices, keys and values
 * and values, messages                            that bank 0 has no room for
 * ```
 *
 * What fits one bank lies in one. Otherwise matrices lie in the others, and the processing elements
 * bring rows of activations to them (`pe/banked_kernels.ts`): nothing ever spans two banks.
 */

import { DeviceMemoryError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { allocatedBytes, BANK_BYTES_MAX, HBM_ALIGNMENT, MemoryBank } from "./memory_bank.ts";

export { HBM_ALIGNMENT };

/** Addresses of bank b are b · this + an offset, however many bytes it has. */
const BANK_SPAN = 2 ** 32;

/** Most banks of a device: 48 GiB, about what the card has. */
const BANK_COUNT_MAX = 12;

/** Most bytes the emulated HBM can hold. */
export const HBM_BYTES_MAX: number = BANK_COUNT_MAX * BANK_BYTES_MAX;

/** The part of the first of several banks that keys and values leave to all else. */
const FIRST_BANK_ROOM = 1 / 8;

/** The bank that an address is in. */
export function bankOf(address: number): number {
  return Math.floor(address / BANK_SPAN);
}

/** Where in its bank an address is. */
export function offsetInBank(address: number): number {
  return address % BANK_SPAN;
}

/** The bytes at an address. The view is of the memory as it is now: do not keep it. */
export function bytesAt(
  memories: readonly WebAssembly.Memory[],
  address: number,
  sizeBytes: number,
): Uint8Array {
  const memory = memories[bankOf(address)];
  invariant(memory !== undefined, `There is no bank for address ${address}`);
  return new Uint8Array(memory.buffer, offsetInBank(address), sizeBytes);
}

/** What a device will be asked to hold besides what it needs itself, in the order of the asking. */
export interface MemoryNeed {
  /** Bytes of each matrix. */
  readonly matrices: readonly number[];
  /** Bytes of each layer's keys and values. */
  readonly kvLayers: readonly number[];
}

/** How banks are divided. */
export interface BankShape {
  /** Bytes of each bank that the processing elements work with. */
  readonly workBytes: number;
  /**
   * For tests: bytes of each bank for matrices, keys and values. Default: all that is left, but for
   * the first bank's room for all else.
   */
  readonly storeBytes?: number | undefined;
}

/** Bytes for matrices, keys and values in the first bank. */
function firstStoreBytes({ workBytes, storeBytes }: BankShape): number {
  return storeBytes ?? BANK_BYTES_MAX * (1 - FIRST_BANK_ROOM) - workBytes;
}

/** The same in the other ones. */
function otherStoreBytes({ workBytes, storeBytes }: BankShape): number {
  return storeBytes ?? BANK_BYTES_MAX - HBM_ALIGNMENT - workBytes;
}

/**
 * How many banks hold all that is needed.
 *
 * @throws {DeviceMemoryError} As many as there can be do not.
 */
export function planBanks(need: MemoryNeed, shape: BankShape): number {
  const matrices = need.matrices.map(allocatedBytes);
  const kvLayers = need.kvLayers.map(allocatedBytes);
  const total = (sizes: readonly number[]) => sizes.reduce((sum, size) => sum + size, 0);
  const first = firstStoreBytes(shape);
  if (total(matrices) + total(kvLayers) <= first) return 1;
  // As `Hbm` will place them, in the same order.
  const other = otherStoreBytes(shape);
  const free = new Array<number>(BANK_COUNT_MAX).fill(other);
  free[0] = first;
  let count = 1;
  const room = first + (BANK_COUNT_MAX - 1) * other;
  const put = (size: number, from: number, what: string): void => {
    const bank = free.findIndex((bytes, index) => index >= from && bytes >= size);
    if (bank < 0) {
      throw new DeviceMemoryError(
        `Cannot hold ${total(matrices)} bytes of weights and ${total(kvLayers)} bytes of keys ` +
          `and values (kvCacheBytes): the device has room for ${room}, ` +
          `of which ${first} for keys and values only, and ${what} of ${size} bytes finds none in ` +
          `one piece`,
      );
    }
    free[bank] = free[bank] as number - size;
    count = Math.max(count, bank + 1);
  };
  for (const size of matrices) put(size, 1, "a matrix");
  for (const size of kvLayers) put(size, 0, "a layer's keys and values");
  return count;
}

/** The device's memory. Address 0 is never handed out. */
export class Hbm {
  readonly #banks: readonly MemoryBank[];
  #firstStoreBytes: number;

  /** As many banks as are asked for; by default one. */
  constructor(
    bankCount: number = 1,
    shape: BankShape = { workBytes: 0 },
  ) {
    const otherBytes = HBM_ALIGNMENT + shape.workBytes + otherStoreBytes(shape);
    this.#banks = Array.from(
      { length: bankCount },
      (_, bank) => new MemoryBank(bank === 0 ? BANK_BYTES_MAX : otherBytes),
    );
    this.#firstStoreBytes = firstStoreBytes(shape);
  }

  /** The banks' memories, which kernels run against. */
  get memories(): readonly WebAssembly.Memory[] {
    return this.#banks.map(({ memory }) => memory);
  }

  /** Bytes in use. */
  get usedBytes(): number {
    return this.#banks.reduce((sum, bank) => sum + bank.usedBytes, 0);
  }

  /** The first bank's memory as it is now: a `SharedArrayBuffer`. */
  get buffer(): ArrayBufferLike {
    return this.#bank(0).memory.buffer;
  }

  /** The bytes at an address. The view is of the memory as it is now: do not keep it. */
  bytes(address: number, sizeBytes: number): Uint8Array {
    const memory = this.#bank(bankOf(address)).memory;
    return new Uint8Array(memory.buffer, offsetInBank(address), sizeBytes);
  }

  /**
   * Takes `sizeBytes` of one bank, by default the first, and returns their address, a multiple of
   * {@linkcode HBM_ALIGNMENT}.
   */
  allocate(sizeBytes: number, what: string, bank: number = 0): number {
    return this.#allocate(sizeBytes, what, [bank]);
  }

  /** Takes memory for a matrix: of the first bank only if it is the only one. */
  allocateMatrix(sizeBytes: number, what: string): number {
    return this.#allocate(sizeBytes, what, this.#banks.length === 1 ? [0] : this.#otherBanks());
  }

  /** Takes memory for a layer's keys and values: of the first bank, as long as that has room. */
  allocateKv(sizeBytes: number, what: string): number {
    const fitsFirst = allocatedBytes(sizeBytes) <= this.#firstStoreBytes;
    if (this.#banks.length > 1 && !fitsFirst) {
      return this.#allocate(sizeBytes, what, this.#otherBanks());
    }
    this.#firstStoreBytes -= allocatedBytes(sizeBytes);
    return this.#allocate(sizeBytes, what, [0]);
  }

  /** Gives an allocation back. */
  free(address: number): void {
    this.#bank(bankOf(address)).free(offsetInBank(address));
  }

  #bank(index: number): MemoryBank {
    const bank = this.#banks[index];
    invariant(bank !== undefined, `There is no bank ${index} of ${this.#banks.length}`);
    return bank;
  }

  #otherBanks(): number[] {
    return this.#banks.map((_, index) => index).slice(1);
  }

  #allocate(sizeBytes: number, what: string, banks: readonly number[]): number {
    invariant(
      Number.isSafeInteger(sizeBytes) && sizeBytes > 0,
      `Cannot allocate ${sizeBytes} bytes`,
    );
    for (const index of banks) {
      const offset = this.#bank(index).allocate(sizeBytes, what);
      if (offset !== undefined) return index * BANK_SPAN + offset;
    }
    const states = banks.map((index) => {
      const { usedBytes, bytesMax } = this.#bank(index);
      return `${usedBytes} of ${bytesMax} bytes`;
    });
    throw new DeviceMemoryError(
      `Cannot allocate ${sizeBytes} bytes for ${what}: of the device memory that it can be in, ` +
        `${states.join(", ")} are taken; use a smaller model or a smaller kvCacheBytes`,
    );
  }
}
