/** Decoding while another program keeps one core busy, beside decoding on a quiet machine. */

import { Contestant } from "../contestants/contestant.ts";
import { decodeTask, Seeds, speed } from "../contestants/speed.ts";
import { median, rounded } from "../report/figures.ts";
import { type Finding, type PartFindings, skipPart } from "../report/results.ts";
import type { PartOptions } from "./part.ts";

const BATCHES = [1, 8] as const;
/** Until the other program is under way. */
const START_MS = 300;

/** Quiet and disturbed in turns. */
export async function measureForeign(
  { rounds, models, say }: PartOptions,
): Promise<PartFindings> {
  if (navigator.hardwareConcurrency < 2) {
    return skipPart("foreign", "the machine has one core only");
  }
  await using ours = Contestant.ours();
  const path = await models.path("bf16");
  const { threads } = await ours.ask({ ask: "load", path, kvType: "bf16" });
  const setting = { seeds: new Seeds(), threads: threads[0] as number };
  const findings: Finding[] = [];
  for (const batch of BATCHES) {
    const task = decodeTask(batch);
    await speed(ours, task, setting);
    const ratios: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const quiet = await speed(ours, task, setting);
      ratios.push(await disturbed(() => speed(ours, task, setting)) / quiet);
    }
    const value = rounded(median(ratios));
    say(`batch ${batch}: ${value}`);
    findings.push({
      goal: `decode b${batch} with a foreign busy core, over quiet`,
      value,
      note: `bf16, ${setting.threads} threads`,
    });
  }
  return { findings, tables: [], charts: [], facts: {} };
}

/** Runs something while a process that does nothing but count takes a core. */
async function disturbed<T>(run: () => Promise<T>): Promise<T> {
  const spinner = new Deno.Command(Deno.execPath(), {
    args: ["eval", "for (let i = 0;; i++);"],
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    await new Promise((resolve) => setTimeout(resolve, START_MS));
    return await run();
  } finally {
    spinner.kill("SIGKILL");
    await spinner.status;
  }
}
