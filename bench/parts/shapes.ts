/** Other models' shapes with random weights, beside the speed at which memory is read. */

import { Contestant } from "../contestants/contestant.ts";
import { decodeTask, PREFILL_512, Seeds, speed } from "../contestants/speed.ts";
import { ReadSpeed } from "../machine/read_speed.ts";
import { writeRandomCheckpoint } from "../models/random_checkpoint.ts";
import { median, rounded } from "../report/figures.ts";
import { memoryMode } from "../report/goals.ts";
import type { PartFindings } from "../report/results.ts";
import type { PartOptions } from "./part.ts";

/** What is measured; the config.json of the first two is the published one, as far as it counts. */
const SHAPES: readonly (readonly [name: string, config: Readonly<Record<string, unknown>>])[] = [
  ["Qwen2.5-0.5B", {
    architectures: ["Qwen2ForCausalLM"],
    model_type: "qwen2",
    vocab_size: 151_936,
    hidden_size: 896,
    intermediate_size: 4864,
    num_hidden_layers: 24,
    num_attention_heads: 14,
    num_key_value_heads: 2,
    max_position_embeddings: 32_768,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    tie_word_embeddings: true,
  }],
  ["Qwen3-0.6B", {
    architectures: ["Qwen3ForCausalLM"],
    model_type: "qwen3",
    vocab_size: 151_936,
    hidden_size: 1024,
    intermediate_size: 3072,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: 8,
    head_dim: 128,
    max_position_embeddings: 40_960,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    tie_word_embeddings: true,
  }],
  ["Qwen 3 MoE, 8 layers, 4 of 32 experts", {
    architectures: ["Qwen3MoeForCausalLM"],
    model_type: "qwen3_moe",
    vocab_size: 32_768,
    hidden_size: 1024,
    intermediate_size: 3072,
    moe_intermediate_size: 512,
    num_experts: 32,
    num_experts_per_tok: 4,
    norm_topk_prob: true,
    num_hidden_layers: 8,
    num_attention_heads: 16,
    num_key_value_heads: 4,
    head_dim: 64,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    tie_word_embeddings: true,
  }],
];

/** Prompts and what is written behind them fit; more would only be reserved. */
const MAX_MODEL_LENGTH = 1024;

/** Decoding one and four sequences, and a prompt of 512 tokens. */
export async function measureShapes({ rounds, say }: PartOptions): Promise<PartFindings> {
  using reader = await ReadSpeed.start(2);
  const reads: number[] = [];
  const rows: (readonly (string | number)[])[] = [];
  for (const [name, config] of SHAPES) {
    const folder = await Deno.makeTempDir({ prefix: "rngd-bench-" });
    try {
      await writeRandomCheckpoint(folder, config);
      await using ours = Contestant.ours();
      const { weightBytes, activeShare = 1, threads } = await ours.ask({
        ask: "load",
        path: folder,
        kvType: "bf16",
        options: { maxModelLength: MAX_MODEL_LENGTH },
      });
      const setting = { seeds: new Seeds(), threads: threads[0] as number };
      const tasks = [decodeTask(1), decodeTask(4), PREFILL_512] as const;
      for (const task of tasks) await speed(ours, task, setting); // kernels are compiled
      const speeds = tasks.map((): number[] => []);
      const shares: number[] = [];
      for (let round = 0; round < rounds; round++) {
        const before = await reader.measure();
        const measured = await speed(ours, tasks[0], setting);
        const read = Math.max(before, await reader.measure());
        reads.push(read);
        shares.push(measured * weightBytes * activeShare / read);
        speeds[0]!.push(measured);
        speeds[1]!.push(await speed(ours, tasks[1], setting));
        speeds[2]!.push(await speed(ours, tasks[2], setting));
      }
      const [one, four, prefill] = speeds.map((list) => rounded(median(list)));
      const row = [
        name,
        rounded(weightBytes / 1e6),
        rounded(weightBytes * activeShare / 1e6),
        one!,
        rounded(median(shares)),
        four!,
        prefill!,
      ];
      say(row.join("  "));
      rows.push(row);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }
  const read = median(reads);
  return {
    findings: [],
    tables: [{
      title: "Tokens a second",
      text: "bf16 weights, keys and values; contexts of at most 64 where tokens are decoded, a " +
        "prompt of 512 in prefill. “Over the read loop” has the weights that one token meets, read " +
        "once, as its measure: of experts only those that are chosen.",
      columns: [
        "shape",
        "weights, MB",
        "of which a token meets",
        "decode, 1 sequence",
        "over the read loop",
        "decode, 4 sequences",
        "prefill 512",
      ],
      rows,
    }],
    charts: [],
    facts: { "memory mode": memoryMode(read), "read loop, GB/s": rounded(read / 1e9) },
  };
}
