/** What GGUF files say of windows and scores, and what is assumed where they are silent. */

import { assertEquals, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import type { GgufHeader, GgufTensor, GgufValue } from "../../lib/models/formats/gguf.ts";
import { readGgufConfig } from "../../lib/models/gguf_config.ts";

function read(architecture: string, layerCount: number, more: Record<string, GgufValue> = {}) {
  const settings: Record<string, GgufValue> = {
    "context_length": 512,
    "embedding_length": 320,
    "block_count": layerCount,
    "feed_forward_length": 64,
    "attention.head_count": 4,
    "attention.key_length": 16,
    "attention.value_length": 16,
    "attention.layer_norm_rms_epsilon": 1e-5,
    ...more,
  };
  const metadata = new Map<string, GgufValue>([["general.architecture", architecture]]);
  for (const [key, value] of Object.entries(settings)) {
    metadata.set(`${architecture}.${key}`, value);
  }
  const embedding = { name: "token_embd.weight", shape: [100, 320] } as unknown as GgufTensor;
  const header = { metadata, tensors: new Map([[embedding.name, embedding]]) } as GgufHeader;
  return readGgufConfig("m.gguf", header, undefined);
}

const WINDOW = { "attention.sliding_window": 9 };

Deno.test("A GGUF window is for all layers, or for those that a period or a list names", () => {
  assertEquals(read("llama", 3).windows, [0, 0, 0]);
  assertEquals(read("llama", 3, WINDOW).windows, [9, 9, 9]);
  const period = { ...WINDOW, "attention.sliding_window_pattern": 2 };
  assertEquals(read("exaone4", 4, period).windows, [9, 0, 9, 0]);
  const list = { ...WINDOW, "attention.sliding_window_pattern": [false, true, true] };
  assertEquals(read("gemma3", 3, list).windows, [0, 9, 9]);
  const short = { ...WINDOW, "attention.sliding_window_pattern": [false, true] };
  assertThrows(() => read("gemma3", 3, short), CheckpointError, "3 booleans");
});

Deno.test("Without a pattern Gemma 3 has six layers in a period, EXAONE 4 four if it is the large one", () => {
  assertEquals(read("gemma3", 7, WINDOW).windows, [9, 9, 9, 9, 9, 0, 9]);
  const small = read("exaone4", 4);
  assertEquals([small.windows, small.fullLayersRotate], [[0, 0, 0, 0], true]);
  const large = read("exaone4", 64);
  assertEquals(large.windows.slice(0, 5), [4096, 4096, 4096, 0, 4096]);
  assertEquals([large.fullLayersRotate, large.norms, large.qkNorm], [false, "after", true]);
});

Deno.test("Gemma 3 from GGUF has its norms as they are, two rotary settings, and scores by head", () => {
  const gemma = read("gemma3", 6, { ...WINDOW, "rope.freq_base": 1e6 });
  assertEquals([gemma.normOffset, gemma.attentionScale, gemma.tieWordEmbeddings], [0, 0.25, true]);
  assertEquals([gemma.rope.theta, gemma.slidingRope?.theta], [1e6, 1e4]);
  assertEquals([gemma.embeddingScale, gemma.roundsEmbeddingScale], [Math.sqrt(320), false]);
  assertEquals(read("gemma3", 62, WINDOW).attentionScale, 1 / Math.sqrt(80));
  assertEquals(read("gemma3", 6, { ...WINDOW, "attention.scale": 0.5 }).attentionScale, 0.5);
  assertEquals(read("gemma3", 6, { "final_logit_softcapping": 30 }).logitSoftcap, 30);
});

Deno.test("A GGUF factor without a type scales positions linearly, as llama.cpp has it", () => {
  const scaling = { kind: "linear", factor: 4 } as const;
  assertEquals(read("llama", 1, { "rope.scaling.factor": 4 }).rope.scaling, scaling);
  const none = { "rope.scaling.factor": 4, "rope.scaling.type": "none" };
  assertEquals(read("llama", 1, none).rope.scaling, { kind: "none" });
});

Deno.test("GGUF settings that no graph follows are refused by their key", () => {
  const settings: [string, GgufValue][] = [
    ["attention.causal", false],
    ["attn_logit_softcapping", 50],
    ["logit_scale", 0.5],
    ["expert_group_count", 4],
  ];
  for (const [key, value] of settings) {
    assertThrows(() => read("llama", 1, { [key]: value }), CheckpointError, `llama.${key}`);
  }
});
