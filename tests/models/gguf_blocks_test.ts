/** GGUF's block types: exact values, and models that compute with them as with their float32. */

import { assert, assertEquals } from "@std/assert";
import {
  decodeRow,
  packPanel,
  panelBytes,
  sourceRowBytes,
  unpackPanel,
} from "../../lib/device/block_formats.ts";
import { GGUF_BLOCK_TYPES } from "../../lib/models/formats/gguf_blocks.ts";
import { Random, randomSeed } from "../device/kernel_contract.ts";
import { decodeGguf, GGUF_REFERENCES, randomGguf } from "../helpers/gguf_decode.ts";
import type { GgufPart } from "../helpers/gguf_writer.ts";
import { concatBytes } from "../helpers/safetensors_writer.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { modelLogits } from "../helpers/model_logits.ts";
import { tinyBytes, tinyGgufBytes } from "../helpers/tiny_model.ts";
import gguf from "../golden/gguf.json" with { type: "json" };

/** Rows as panels are packed from them. */
function repacked(type: string, bytes: Uint8Array, k: number): Uint8Array {
  const { format, blockBytes, blockElements, repack } = GGUF_BLOCK_TYPES.get(type)!;
  const rows = bytes.length / blockBytes * blockElements / k;
  const target = new Uint8Array(rows * sourceRowBytes(format, k));
  repack(bytes, target);
  return target;
}

Deno.test("Repacked blocks have the golden values of GGUF's types", () => {
  let checked = 0;
  for (const golden of gguf.cases) {
    const type = GGUF_BLOCK_TYPES.get(golden.type);
    if (type === undefined) continue;
    checked++;
    const { blockBytes, blockElements, format } = type;
    const bytes = tinyBytes(`gguf:${golden.type}`, golden.n / blockElements * blockBytes);
    for (let b = 0; b * blockBytes < bytes.length; b++) {
      const { halves } = GGUF_REFERENCES[golden.type]!;
      for (const [i, at] of halves.entries()) {
        bytes.set(i === 0 ? [0x00, 0x2c] : [0x00, 0x34], b * blockBytes + at);
      }
      if (golden.type === "MXFP4") bytes[b * blockBytes] = b === 0 ? 125 : 127;
      if (golden.type === "NVFP4") bytes.set([0x30, 0x38, 0x40, 0x28], b * blockBytes);
    }
    const row = repacked(golden.type, bytes, golden.n);
    const y = decodeRow(format, golden.n, row);
    assertEquals([...y.subarray(0, 4)], golden.first4, golden.type);
    assertEquals(y[17], golden.y17, golden.type);
    const close = (actual: number, expected: number) =>
      assert(Math.abs(actual - expected) < 1e-6 * Math.max(1, Math.abs(expected)), golden.type);
    close(y.reduce((sum, value) => sum + value, 0), golden.sum);
    close(y.reduce((sum, value) => sum + value * value, 0), golden.sum_squares);
    close(y.reduce((sum, value, i) => sum + (i + 1) * value, 0), golden.sum_weighted);
    assertEquals(y, decodeGguf(golden.type, bytes), golden.type);
  }
  assertEquals(checked, GGUF_BLOCK_TYPES.size);
});

Deno.test("Random blocks keep every value through repacking and packing", () => {
  const random = new Random(randomSeed());
  for (const [type, { format }] of GGUF_BLOCK_TYPES) {
    for (let round = 0; round < 20; round++) {
      const k = 256 * random.integer(1, 3);
      const bytes = randomGguf(type, 3 * k, random, random.pick([0.25, 8, 1e-3]));
      const rows = repacked(type, bytes, k);
      const expected = decodeGguf(type, bytes);
      const panel = new Uint8Array(panelBytes(format, k));
      packPanel(format, k, rows, 3, panel);
      const values = unpackPanel(format, k, panel);
      for (let row = 0; row < 3; row++) {
        for (let i = 0; i < k; i++) {
          const [found, right] = [values[8 * i + row]!, expected[row * k + i]!];
          // −0 and 0 are the same weight.
          assert(found === right, `${random}: ${type} ${row}, ${i}: ${found}, not ${right}`);
        }
      }
    }
  }
});

/** Wide enough for super-blocks of 256. */
const WIDE = {
  ...goldenModel("llama"),
  config: {
    ...goldenModel("llama").config,
    hidden_size: 256,
    intermediate_size: 512,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    rope_scaling: undefined,
  },
};

for (const type of Object.keys(GGUF_REFERENCES)) {
  Deno.test(`A GGUF model of ${type} has the logits of its values as float32, bit for bit`, async () => {
    const random = new Random(randomSeed());
    const write = (path: string, isQuantized: boolean, stream: Random) =>
      Deno.writeFileSync(
        path,
        tinyGgufBytes(WIDE, ({ tensors }) => {
          for (const [i, tensor] of tensors.entries()) {
            if (tensor.shape.length !== 2) continue;
            const [n, k] = tensor.shape as [number, number];
            const bytes = randomGguf(type, n * k, stream);
            tensors[i] = isQuantized
              ? { ...tensor, typeId: GGUF_REFERENCES[type]!.typeId, bytes }
              : { ...tensor, bytes: new Uint8Array(decodeGguf(type, bytes).buffer) };
          }
        }),
      );
    const dir = await Deno.makeTempDir();
    try {
      write(`${dir}/a.gguf`, true, new Random(random.seed));
      write(`${dir}/b.gguf`, false, new Random(random.seed));
      const ids = [5, 80, 3, 44, 17, 91, 2];
      const found = await modelLogits(`${dir}/a.gguf`, ids);
      const expected = await modelLogits(`${dir}/b.gguf`, ids, { threads: 0 });
      assert(expected.every((row) => row.every(Number.isFinite)), `${random}`);
      assertEquals(found, expected, `${random}`);
      // Repacked once more, exactly.
      assertEquals(await modelLogits(`${dir}/a.gguf`, ids, { dtype: "float32" }), expected);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

Deno.test("Queries, keys and values in one tensor, with their biases, are those of three", async () => {
  const qwen = { ...goldenModel("qwen2"), config: { ...goldenModel("qwen2").config } };
  for (const golden of [goldenModel("llama"), qwen]) {
    const fuse = (file: { tensors: GgufPart[] }) => {
      for (const [i, first] of [...file.tensors].entries()) {
        if (!first.name.includes("attn_q.")) continue;
        const three = ["attn_q.", "attn_k.", "attn_v."].map((which) =>
          file.tensors.find(({ name }) => name === first.name.replace("attn_q.", which))!
        );
        const rows = three.reduce((sum, { shape }) => sum + shape[0]!, 0);
        file.tensors[i] = {
          ...first,
          name: first.name.replace("attn_q.", "attn_qkv."),
          shape: [rows, ...first.shape.slice(1)],
          bytes: concatBytes(three.map(({ bytes }) => bytes)),
        };
      }
      file.tensors = file.tensors.filter(({ name }) => !/attn_[qkv]\./.test(name));
    };
    // GGUF has no words for a window on some layers.
    const { config } = golden;
    const whole = { ...golden, config: { ...config, use_sliding_window: false } };
    const dir = await Deno.makeTempDir();
    try {
      Deno.writeFileSync(`${dir}/a.gguf`, tinyGgufBytes(whole, fuse));
      Deno.writeFileSync(`${dir}/b.gguf`, tinyGgufBytes(whole));
      const ids = [5, 80, 3, 44, 17, 91, 2];
      assertEquals(
        await modelLogits(`${dir}/a.gguf`, ids),
        await modelLogits(`${dir}/b.gguf`, ids, { threads: 0 }),
        golden.name,
      );
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  }
});
