/** Loading streams: the process never holds much more than weights, KV pool and activations. */

import { assert } from "@std/assert";
import { modelTest } from "./helpers/smollm2.ts";

const MB = 1024 * 1024;
const THREADS = 2;
const KV_BYTES = 64 * MB;
/** Step inputs, activations of 512 tokens and 64 rows of logits. */
const ACTIVATION_BYTES = 48 * MB;

const CONFIG = new URL("../deno.json", import.meta.url).pathname;
const PROGRAM = `
import { LLM, SamplingParams } from ${JSON.stringify(new URL("../mod.ts", import.meta.url).href)};
await using llm = await LLM.load(Deno.args[0], { threads: ${THREADS}, kvCacheBytes: ${KV_BYTES} });
await llm.generate("Once upon a time", new SamplingParams({ maxTokens: 8 }));
const status = await Deno.readTextFile("/proc/self/status");
const peakKib = Number(/VmHWM:\\s*(\\d+)/.exec(status)?.[1]);
Deno.stdout.writeSync(new TextEncoder().encode(JSON.stringify({ peakKib, weightBytes: llm.info.weightBytes })));
`;

modelTest(
  "Peak memory is weights, KV pool and activations plus 350 MB and 20 MB a worker",
  async (path) => {
    if (Deno.build.os !== "linux") return;
    const program = await Deno.makeTempFile({ suffix: ".ts" });
    try {
      await Deno.writeTextFile(program, PROGRAM);
      const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", "--config", CONFIG, program, path],
      }).output();
      assert(success, new TextDecoder().decode(stderr));
      const { peakKib, weightBytes } = JSON.parse(new TextDecoder().decode(stdout));
      const limit = weightBytes + KV_BYTES + ACTIVATION_BYTES + (350 + 20 * THREADS) * MB;
      const peak = peakKib * 1024;
      assert(peak > weightBytes, `a peak of ${peak} bytes cannot be right`);
      assert(
        peak <= limit,
        `peak of ${(peak / MB).toFixed(0)} MB, limit ${(limit / MB).toFixed(0)} MB`,
      );
    } finally {
      await Deno.remove(program);
    }
  },
);
