/** What kind of machine this is, for the record. */

import { cpus } from "node:os";
import type { Machine } from "../report/results.ts";

/** This machine. */
export function describeMachine(): Machine {
  const processors = cpus();
  return {
    processor: processors[0]?.model.trim() ?? "an unknown processor",
    cores: processors.length,
    memoryBytes: Deno.systemMemoryInfo().total,
    system: `${Deno.build.os} ${Deno.build.arch}`,
    deno: Deno.version.deno,
    v8: Deno.version.v8,
  };
}
