/**
 * The device at work: weights, KV blocks and activations in HBM, wires that are loaded by the
 * processing elements once, and steps that run one at a time.
 */

import type { ActivationType } from "./activations.ts";
import type { Bucket } from "./bucket.ts";
import type { Graph } from "./compiler/graph.ts";
import type { Wire } from "./compiler/wire.ts";
import { WireCache, type WireStats } from "./compiler/wire_cache.ts";
import type { WeightFormat } from "./block_formats.ts";
import type { KvPool } from "./kernel_table.ts";
import { KvBlocks, type KvPoolShape } from "./kv_blocks.ts";
import type { Hbm } from "./memory.ts";
import type { PeGroup } from "./pe/pe.ts";
import { type StepInputs, writeStepInputs } from "./step_inputs.ts";
import { type DeviceRows, stepRows } from "./step_rows.ts";
import type { TraceEntry } from "./trace.ts";
import { type RowWindow, WeightStore } from "./weight_store.ts";

/** A device over memory and processing elements that stand ready; it closes them. */
export class EmulatedDevice {
  readonly #hbm: Hbm;
  readonly #pes: PeGroup;
  readonly #weights: WeightStore;
  readonly #kv: KvBlocks;
  readonly #wires: WireCache;
  readonly #wireNumbers = new Map<Wire, Promise<number>>();
  #arena = { address: 0, sizeBytes: 0 };
  #last: Promise<unknown> = Promise.resolve();
  #closing: Promise<void> | undefined;
  #kernelFallbacks: readonly string[] = [];

  constructor(
    hbm: Hbm,
    pes: PeGroup,
    options: { readonly maxOutputRows: number; readonly activations: ActivationType },
  ) {
    this.#hbm = hbm;
    this.#pes = pes;
    this.#weights = new WeightStore(hbm, pes);
    this.#kv = new KvBlocks(hbm);
    this.#wires = new WireCache({
      ...options,
      peCount: pes.count,
      matrix: (name) => this.#weights.matrix(name),
      address: (name) => this.#weights.floats(name),
      kvLayer: (index) => this.#kv.layer(index),
      arena: (sizeBytes) => this.#arenaOf(sizeBytes),
    });
  }

  get peCount(): number {
    return this.#pes.count;
  }

  get usedBytes(): number {
    return this.#hbm.usedBytes;
  }

  allocateMatrix(name: string, format: WeightFormat, n: number, k: number): void {
    this.#weights.allocateMatrix(name, format, n, k);
  }

  uploadFloats(name: string, values: Float32Array): void {
    this.#weights.uploadFloats(name, values);
  }

  uploadRows(name: string, rowStart: number, rowCount: number, source: Uint8Array): void {
    this.#weights.uploadRows(name, rowStart, rowCount, source);
  }

  openRowWindow(sizeBytes: number): RowWindow {
    return this.#weights.openRowWindow(sizeBytes);
  }

  allocateKv(layers: number | readonly KvPool[], shape: KvPoolShape): void {
    this.#kv.allocate(layers, shape);
  }

  prepare(graph: Graph, bucket: Bucket): Wire {
    return this.#wires.get(graph, bucket);
  }

  run(wire: Wire, inputs: StepInputs): Promise<DeviceRows> {
    return this.#afterLast(() => this.#step(wire, inputs));
  }

  recheckKernels(): Promise<void> {
    return this.#afterLast(() => this.#pes.recheck());
  }

  async #step(wire: Wire, inputs: StepInputs): Promise<DeviceRows> {
    const wireNumber = await this.#load(wire);
    this.#kv.copy(inputs.blockCopies ?? []); // no element runs now
    writeStepInputs(this.#hbm.buffer, wire, inputs);
    await this.#pes.run(wireNumber, {
      tokens: inputs.tokenIds.length,
      outputs: inputs.outputRows.length,
      hidden: inputs.hiddenRows?.length ?? 0,
    });
    return stepRows({ buffer: this.#hbm.buffer, peCount: this.#pes.count }, wire, inputs);
  }

  /** The number under which the elements know a wire. */
  #load(wire: Wire): Promise<number> {
    let number = this.#wireNumbers.get(wire);
    if (number === undefined) {
      number = this.#pes.load(wire);
      this.#wireNumbers.set(wire, number);
      number.catch(() => this.#wireNumbers.delete(wire));
    }
    return number;
  }

  wireStats(): WireStats {
    return this.#wires.stats();
  }

  get kernelFallbacks(): readonly string[] {
    // Looked at after every step, so told from the count where nothing is new.
    const { refusals } = this.#pes;
    if (refusals.count !== this.#kernelFallbacks.length) this.#kernelFallbacks = refusals.list();
    return this.#kernelFallbacks;
  }

  trace(): Promise<TraceEntry[]> {
    return this.#pes.trace();
  }

  /** For tests; not part of what the interface offers. */
  injectFault(peIndex: number, fault: "crash" | "stall" | "exit"): void {
    this.#pes.injectFault(peIndex, fault);
  }

  close(): Promise<void> {
    this.#closing ??= this.#last.then(() => this.#pes.close());
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Does something when all that was asked for before is done, well or badly. */
  #afterLast<Result>(work: () => Promise<Result>): Promise<Result> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  /**
   * Wires share one arena, since one step runs at a time. When a larger one is needed the old one
   * stays for the wires that know its address.
   */
  #arenaOf(sizeBytes: number): number {
    if (sizeBytes > this.#arena.sizeBytes) {
      this.#arena = { address: this.#hbm.allocate(sizeBytes, "activations"), sizeBytes };
    }
    return this.#arena.address;
  }
}
