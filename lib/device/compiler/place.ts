/** Pass 2: lifetimes → offsets. Values that never live in the same phase share memory. */

import type { Graph } from "./graph.ts";
import { opShape } from "./ops.ts";
import type { PhasedOp } from "./partition.ts";

/** Where a value lies in the activation arena. */
export interface Placement {
  /** Bytes from the start of the arena. */
  readonly offset: number;
  /** Floats from one row to the next. */
  readonly stride: number;
  /** Bytes from one processing element's copy to the next; 0 for a shared value. */
  readonly copyBytes: number;
}

/** How many rows each domain has at most, and how many processing elements keep private copies. */
export interface PlaceOptions {
  readonly tokenCount: number;
  readonly outputCount: number;
  readonly peCount: number;
  /** Bytes at the start of the arena that are taken already. */
  readonly reservedBytes: number;
}

const ALIGNMENT = 64;

/** Rounds up to the arena's alignment. */
export function alignUp(bytes: number, alignment: number = ALIGNMENT): number {
  return Math.ceil(bytes / alignment) * alignment;
}

/**
 * Floats from one row to the next: whole cache lines, and an odd number of them. An even number
 * maps rows to few sets of a cache (in the worst case, all to one), and a tile that writes the same
 * columns of many rows then evicts its own lines.
 */
export function rowStride(width: number): number {
  const lines = alignUp(width * 4) / ALIGNMENT;
  return (lines + (lines % 2 === 0 ? 1 : 0)) * ALIGNMENT / 4;
}

interface Life {
  first: number;
  last: number;
  isPrivate: boolean;
}

function lifetimes(graph: Graph, program: readonly PhasedOp[]): Life[] {
  const lives: Life[] = graph.values.map(() => ({ first: Infinity, last: -1, isPrivate: false }));
  for (const { op, phase } of program) {
    const { reads, writes } = opShape(op);
    for (const { resource, split } of [...reads, ...writes]) {
      if (typeof resource === "string") continue;
      const life = lives[resource];
      if (life === undefined) continue;
      life.first = Math.min(life.first, phase);
      life.last = Math.max(life.last, phase);
      if (split === "private") life.isPrivate = true;
    }
  }
  for (const id of [graph.output, graph.hidden, graph.summary]) {
    const life = id === null ? undefined : lives[id];
    if (life !== undefined) life.last = Infinity; // read by the host when the step is over
  }
  return lives;
}

/** Gives every value the lowest offset that is free during its whole life. */
export function place(
  graph: Graph,
  program: readonly PhasedOp[],
  options: PlaceOptions,
): { placements: Placement[]; arenaBytes: number } {
  const lives = lifetimes(graph, program);
  const placed: { start: number; end: number; life: Life }[] = [];
  const base = alignUp(options.reservedBytes);
  let arenaBytes = base;
  const placements = graph.values.map((value, id): Placement => {
    const life = lives[id] as Life;
    // A hidden state may be wanted of every token.
    const rows = value.rows === "outputs"
      ? options.outputCount
      : value.rows === "choices"
      ? options.tokenCount * graph.choiceCount
      : options.tokenCount;
    const stride = rowStride(value.width);
    const copyBytes = rows * stride * 4;
    const sizeBytes = life.isPrivate ? copyBytes * options.peCount : copyBytes;
    const alive = placed
      .filter((other) => other.life.first <= life.last && life.first <= other.life.last)
      .sort((a, b) => a.start - b.start);
    let offset = base;
    for (const other of alive) {
      if (offset + sizeBytes <= other.start) break;
      offset = Math.max(offset, other.end);
    }
    placed.push({ start: offset, end: offset + sizeBytes, life });
    arenaBytes = Math.max(arenaBytes, offset + sizeBytes);
    return { offset, stride, copyBytes: life.isPrivate ? copyBytes : 0 };
  });
  return { placements, arenaBytes };
}
