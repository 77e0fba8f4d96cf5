/** Pass 1: where the processing elements must meet. Splits are the ops' own; this pass adds the barriers. */

import type { Graph } from "./graph.ts";
import { type Access, type Op, opShape, type Resource, type Split } from "./ops.ts";

/** One operation with the barrier phase it runs in. Phase n + 1 starts when all have finished phase n. */
export interface PhasedOp {
  readonly op: Op;
  readonly split: Split;
  readonly phase: number;
}

/**
 * Two accesses to one value need no barrier between them when each processing element touches
 * only its own part in both: the same rows, or the same columns, or a copy of its own.
 */
function keepsApart(a: Split, b: Split): boolean {
  return a === b && a !== "all";
}

/** Puts a barrier wherever an operation touches what another processing element may still be at. */
export function partition(graph: Graph): PhasedOp[] {
  let phase = 0;
  let reads = new Map<Resource, Set<Split>>();
  let writes = new Map<Resource, Set<Split>>();
  const clashes = (table: Map<Resource, Set<Split>>, { resource, split }: Access) => {
    const seen = [...table.get(resource) ?? []];
    // A private copy is read whole, by its owner alone.
    return seen.some((other) => !(keepsApart(other, split) || other === "private"));
  };
  const note = (table: Map<Resource, Set<Split>>, { resource, split }: Access) => {
    const seen = table.get(resource);
    if (seen === undefined) table.set(resource, new Set([split]));
    else seen.add(split);
  };
  return graph.ops.map((op) => {
    const shape = opShape(op);
    const mustWait = shape.reads.some((access) => clashes(writes, access)) ||
      shape.writes.some((access) => clashes(writes, access) || clashes(reads, access));
    if (mustWait) {
      phase++;
      reads = new Map();
      writes = new Map();
    }
    for (const access of shape.reads) note(reads, access);
    for (const access of shape.writes) note(writes, access);
    return { op, split: shape.split, phase };
  });
}
