/**
 * Checkpoints of a real model's shape with random weights: speed depends on shapes and formats, and
 * not on what the weights say, so nothing has to be fetched.
 */

import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import {
  tinyTokenizerConfig,
  tinyTokenizerJson,
} from "../../tests/helpers/tiny_tokenizer_files.ts";

/** Weights that are drawn; tensors are cut from them at changing places. */
const POOL = 1 << 20;
/** The place moves on by this much more than was taken, so that rows of tensors do not repeat. */
const STRIDE = 7919;

/**
 * Writes a checkpoint in bfloat16: config.json, model.safetensors, and a tokenizer that knows the
 * first ids only.
 *
 * @param folder Exists.
 * @param config config.json.
 */
export async function writeRandomCheckpoint(
  folder: string,
  config: Readonly<Record<string, unknown>>,
): Promise<void> {
  const json = {
    "config.json": config,
    "tokenizer.json": tinyTokenizerJson(),
    "tokenizer_config.json": tinyTokenizerConfig(),
  };
  for (const [name, value] of Object.entries(json)) {
    await Deno.writeTextFile(`${folder}/${name}`, JSON.stringify(value));
  }
  const tensors = expectedTensors(readModelConfig("config.json", config))
    .map(({ name, shape }) => ({ name, shape, count: shape.reduce((a, b) => a * b, 1) }));
  const header: Record<string, unknown> = { __metadata__: { format: "pt" } };
  let end = 0;
  for (const { name, shape, count } of tensors) {
    header[name] = { dtype: "BF16", shape, data_offsets: [end, end += 2 * count] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(start.buffer).setBigUint64(0, BigInt(start.length - 8), true);
  start.set(text, 8);

  using file = await Deno.open(`${folder}/model.safetensors`, { write: true, createNew: true });
  await writeAll(file, start);
  const random = Float32Array.from({ length: POOL }, () => 2 * Math.random() - 1);
  const pools = new Map<string, Uint8Array<ArrayBuffer>>();
  let place = 0;
  for (const { name, shape, count } of tensors) {
    // Norms near 1, matrices that keep the size of what goes through them.
    const isNorm = name.endsWith("norm.weight");
    const size = isNorm ? 0.1 : Math.sqrt(3 / (shape[1] ?? 100));
    const key = `${isNorm} ${size}`;
    let pool = pools.get(key);
    if (pool === undefined) {
      pool = toBfloat16(random, (value) => value * size + (isNorm ? 1 : 0));
      pools.set(key, pool);
    }
    for (let left = count; left > 0;) {
      place = (place + STRIDE) % POOL;
      const taken = Math.min(left, POOL - place);
      await writeAll(file, pool.subarray(2 * place, 2 * (place + taken)));
      left -= taken;
      place = (place + taken) % POOL;
    }
  }
}

/** The upper halves of the floats: what is cut off does not matter where all is random. */
function toBfloat16(
  values: Float32Array,
  change: (value: number) => number,
): Uint8Array<ArrayBuffer> {
  const halves = new Uint16Array(
    new Uint32Array(values.map(change).buffer).map((bits) => bits >>> 16),
  );
  return new Uint8Array(halves.buffer);
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
}
