/** The golden models with weights of eight bits: logits and greedy tokens of the reference. */

import { assert, assertEquals } from "@std/assert";
import { LLM, SamplingParams } from "../../mod.ts";
import { goldenFp8, goldenPrompt } from "../helpers/golden_models.ts";
import { modelLogits } from "../helpers/model_logits.ts";
import type { SafetensorsPart } from "../helpers/safetensors_writer.ts";
import { tinyBytes, type TinyTensor, writeTinyModel } from "../helpers/tiny_model.ts";

/** The tensors of a projection, as the cases' notes make them up. */
function fp8Parts({ name, shape }: TinyTensor, block: number | undefined): SafetensorsPart[] {
  const [n, k] = shape as [number, number];
  const codes = tinyBytes(name, n * k).map((byte) => (byte & 0x7f) === 0x7f ? byte - 1 : byte);
  const scale = block === undefined
    ? { name: `${name}_scale`, shape: [n, 1] }
    : { name: `${name}_scale_inv`, shape: [Math.ceil(n / block), Math.ceil(k / block)] };
  const cells = tinyBytes(scale.name, scale.shape[0]! * scale.shape[1]!);
  const scales = Float32Array.from(cells, (byte) => (1 + byte / 256) * 2 ** -10);
  return [
    { name, dtype: "F8_E4M3", shape, bytes: codes },
    { ...scale, dtype: "F32", bytes: new Uint8Array(scales.buffer) },
  ];
}

for (const name of ["qwen3-fp8-block", "llama-fp8-channel"] as const) {
  Deno.test(`Golden model ${name} gives the reference's logits and greedy tokens`, async () => {
    const golden = goldenFp8(name);
    const { expect } = golden;
    const block = name === "qwen3-fp8-block" ? 128 : undefined;
    const dir = await Deno.makeTempDir();
    try {
      let count = 0;
      writeTinyModel(dir, golden, {
        dtype: "BF16",
        shards: 2,
        replace(tensor) {
          if (!tensor.name.endsWith("_proj.weight")) return undefined;
          count++;
          return fp8Parts(tensor, block);
        },
      });
      assertEquals(count, expect.fp8_tensors);
      const ids = goldenPrompt(golden);
      const rows = await modelLogits(dir, ids);
      const assertLogit = (actual: number, expected: number, what: string) => {
        const tolerance = Math.max(2e-5, 1e-5 * Math.abs(expected));
        assert(Math.abs(actual - expected) <= tolerance, `${what}: ${actual}, not ${expected}`);
      };
      for (const [position, row] of rows.entries()) {
        const mean = row.reduce((sum, logit) => sum + logit, 0) / row.length;
        assertLogit(mean, expect.mean[position]!, `mean at ${position}`);
        assertEquals(row.indexOf(Math.max(...row)), expect.argmax[position], `at ${position}`);
      }
      for (const [i, logit] of expect.last8.entries()) {
        assertLogit(rows.at(-1)![i]!, logit, `logit ${i}`);
      }
      await using llm = await LLM.load(dir, { kvCacheDtype: "float32" });
      const maxTokens = expect.greedy6.length;
      const params = new SamplingParams({ temperature: 0, maxTokens, ignoreEos: true });
      const { outputs } = await llm.generate({ promptTokenIds: ids }, params);
      assertEquals(outputs[0]?.tokenIds, expect.greedy6);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}
