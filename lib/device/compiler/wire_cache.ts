/** Graph × bucket → wire, compiled once; counts hits and compile time. */

import { Histogram, type HistogramSnapshot } from "../../base/histogram.ts";
import type { Bucket } from "../bucket.ts";
import { compile, type CompileTarget, wireKey } from "./compile.ts";
import type { Graph } from "./graph.ts";
import type { Wire } from "./wire.ts";

/** How the cache has done so far. */
export interface WireStats {
  /** Wires in the cache. */
  readonly wireCount: number;
  /** Look-ups that found their wire. */
  readonly hitCount: number;
  /** Look-ups that compiled one. */
  readonly missCount: number;
  /** Time spent compiling, in milliseconds. */
  readonly compileMs: number;
  /** The time each of them took, in seconds. */
  readonly compileSeconds: HistogramSnapshot;
}

const COMPILE_SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/** The wires of one device. */
export class WireCache {
  readonly #wires = new Map<string, Wire>();
  readonly #target: CompileTarget;
  #hitCount = 0;
  #missCount = 0;
  #compileMs = 0;
  readonly #compileSeconds = new Histogram(COMPILE_SECONDS);

  constructor(target: CompileTarget) {
    this.#target = target;
  }

  /** The wire of a graph for a bucket, compiled on first use. */
  get(graph: Graph, bucket: Bucket): Wire {
    const key = wireKey(graph, bucket);
    const known = this.#wires.get(key);
    if (known !== undefined) {
      this.#hitCount++;
      return known;
    }
    const start = performance.now();
    const wire = compile(graph, bucket, this.#target);
    const tookMs = performance.now() - start;
    this.#compileMs += tookMs;
    this.#compileSeconds.observe(tookMs / 1000);
    this.#missCount++;
    this.#wires.set(key, wire);
    return wire;
  }

  /** Forgets every wire: their addresses are no longer good. */
  clear(): void {
    this.#wires.clear();
  }

  stats(): WireStats {
    return {
      wireCount: this.#wires.size,
      hitCount: this.#hitCount,
      missCount: this.#missCount,
      compileMs: this.#compileMs,
      compileSeconds: this.#compileSeconds.snapshot(),
    };
  }
}
