/**
 * A checkpoint of several gibibytes whose weights follow from their names, and its plain forward
 * pass: one table of numbers, read in a circle from a place of each tensor's own.
 */

import { tinyValues } from "./tiny_model.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "./tiny_tokenizer_files.ts";

/** A prime, so that no two rows of a matrix are alike. */
const TABLE_LENGTH = 1_048_573;
const WIDTH = 4096;
const HEADS = 32;
const KV_HEADS = 8;
const HEAD_DIM = 128;
const INNER = 24_576;
const VOCABULARY = 101;
const THETA = 10_000;
const EPSILON = 1e-6;
/** Of a layer's matrices: uniform numbers up to this have a deviation of 1 / √width. */
const LAYER_SCALE = 1 / 32;

interface LargeTensor {
  readonly name: string;
  readonly rows: number;
  readonly columns: number;
}

/** The tensors in the order of the file; a norm's weight is one row. */
function largeTensors(layers: number): LargeTensor[] {
  const tensor = (name: string, rows: number, columns: number): LargeTensor => {
    return { name: `${name}.weight`, rows, columns };
  };
  return [
    tensor("model.embed_tokens", VOCABULARY, WIDTH),
    ...Array.from({ length: layers }, (_, layer) => `model.layers.${layer}`).flatMap((layer) => [
      tensor(`${layer}.input_layernorm`, 1, WIDTH),
      tensor(`${layer}.self_attn.q_proj`, HEADS * HEAD_DIM, WIDTH),
      tensor(`${layer}.self_attn.k_proj`, KV_HEADS * HEAD_DIM, WIDTH),
      tensor(`${layer}.self_attn.v_proj`, KV_HEADS * HEAD_DIM, WIDTH),
      tensor(`${layer}.self_attn.o_proj`, WIDTH, HEADS * HEAD_DIM),
      tensor(`${layer}.post_attention_layernorm`, 1, WIDTH),
      tensor(`${layer}.mlp.gate_proj`, INNER, WIDTH),
      tensor(`${layer}.mlp.up_proj`, INNER, WIDTH),
      tensor(`${layer}.mlp.down_proj`, WIDTH, INNER),
    ]),
    tensor("model.norm", 1, WIDTH),
    tensor("lm_head", VOCABULARY, WIDTH),
  ];
}

const isNorm = (name: string) => name.endsWith("norm.weight");

/** Values that bfloat16 holds: bytes between −1 and 1, of layers scaled by a power of two. */
function largeTable(scale: number): Float32Array {
  return tinyValues("embed", TABLE_LENGTH).map((value) => value * scale);
}

/** Where in the table a tensor begins. */
function startOf(name: string): number {
  let hash = 7;
  for (const byte of new TextEncoder().encode(name)) hash = (hash * 131 + byte) % TABLE_LENGTH;
  return hash;
}

const scaleOf = (name: string) => name.startsWith("model.layers.") ? LAYER_SCALE : 1;

/** Writes a model of so many layers, 344 million weights each, as bfloat16; how many bytes it has. */
export function writeLargeModel(dir: string, layers: number): number {
  const write = (name: string, value: unknown) =>
    Deno.writeTextFileSync(`${dir}/${name}`, JSON.stringify(value));
  write("config.json", {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    torch_dtype: "bfloat16",
    hidden_size: WIDTH,
    intermediate_size: INNER,
    num_hidden_layers: layers,
    num_attention_heads: HEADS,
    num_key_value_heads: KV_HEADS,
    head_dim: HEAD_DIM,
    vocab_size: VOCABULARY,
    max_position_embeddings: 512,
    rms_norm_eps: EPSILON,
    rope_theta: THETA,
    hidden_act: "silu",
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  });
  write("tokenizer.json", tinyTokenizerJson());
  write("tokenizer_config.json", tinyTokenizerConfig());
  const tensors = largeTensors(layers);
  const header: Record<string, unknown> = {};
  let end = 0;
  for (const { name, rows, columns } of tensors) {
    const start = end;
    end += 2 * rows * columns;
    const shape = rows === 1 ? [columns] : [rows, columns];
    header[name] = { dtype: "BF16", shape, data_offsets: [start, end] };
  }
  const json = JSON.stringify(header);
  const text = new TextEncoder().encode(json.padEnd(Math.ceil(json.length / 8) * 8));
  using file = Deno.openSync(`${dir}/model.safetensors`, { write: true, create: true });
  writeAll(file, new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer));
  writeAll(file, text);
  const tables = new Map([1, LAYER_SCALE].map((scale) => [scale, bfloat16(largeTable(scale))]));
  for (const { name, rows, columns } of tensors) {
    if (isNorm(name)) {
      writeAll(file, new Uint8Array(bfloat16(new Float32Array(columns).fill(1)).buffer));
      continue;
    }
    const table = tables.get(scaleOf(name)) as Uint16Array<ArrayBuffer>;
    let at = startOf(name);
    for (let left = rows * columns; left > 0;) {
      const count = Math.min(left, TABLE_LENGTH - at);
      writeAll(file, new Uint8Array(table.buffer, 2 * at, 2 * count));
      left -= count;
      at = (at + count) % TABLE_LENGTH;
    }
  }
  return end;
}

function writeAll(file: Deno.FsFile, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.length;) done += file.writeSync(bytes.subarray(done));
}

function bfloat16(values: Float32Array): Uint16Array<ArrayBuffer> {
  return Uint16Array.from(new Uint32Array(values.slice().buffer), (word) => word >>> 16);
}

/** Logits at every position of the tokens, by plain loops in float64. */
export function largeModelLogits(layers: number, ids: readonly number[]): Float64Array[] {
  const tables = new Map([1, LAYER_SCALE].map((scale) => [scale, largeTable(scale)]));
  const multiply = (name: string, rows: number, inputs: readonly Float64Array[]) =>
    multiplyRows(tables.get(scaleOf(name)) as Float32Array, startOf(name), rows, inputs);
  const embedding = tables.get(1) as Float32Array;
  const embeddingStart = startOf("model.embed_tokens.weight");
  const states = ids.map((id) =>
    Float64Array.from(
      { length: WIDTH },
      (_, i) => embedding[(embeddingStart + id * WIDTH + i) % TABLE_LENGTH] as number,
    )
  );
  const addTo = (changes: readonly Float64Array[]) =>
    states.forEach((state, t) =>
      state.forEach((value, i) => state[i] = value + (changes[t]![i] as number))
    );
  for (let layer = 0; layer < layers; layer++) {
    const name = (part: string) => `model.layers.${layer}.${part}.weight`;
    const inputs = states.map(normalise);
    const q = multiply(name("self_attn.q_proj"), HEADS * HEAD_DIM, inputs);
    const k = multiply(name("self_attn.k_proj"), KV_HEADS * HEAD_DIM, inputs);
    const v = multiply(name("self_attn.v_proj"), KV_HEADS * HEAD_DIM, inputs);
    q.forEach(rotate);
    k.forEach(rotate);
    const attended = q.map((_, t) => attend(q, k, v, t));
    addTo(multiply(name("self_attn.o_proj"), WIDTH, attended));
    const middle = states.map(normalise);
    const gate = multiply(name("mlp.gate_proj"), INNER, middle);
    const up = multiply(name("mlp.up_proj"), INNER, middle);
    const inner = gate.map((row, t) =>
      row.map((value, i) => value / (1 + Math.exp(-value)) * (up[t]![i] as number))
    );
    addTo(multiply(name("mlp.down_proj"), WIDTH, inner));
  }
  return multiply("lm_head.weight", VOCABULARY, states.map(normalise));
}

/** The table read as a matrix, times each of the inputs. */
function multiplyRows(
  table: Float32Array,
  start: number,
  rows: number,
  inputs: readonly Float64Array[],
): Float64Array[] {
  const outputs = inputs.map(() => new Float64Array(rows));
  const width = inputs[0]!.length;
  const weights = new Float32Array(width);
  for (let row = 0; row < rows; row++) {
    const at = (start + row * width) % TABLE_LENGTH;
    const head = Math.min(width, TABLE_LENGTH - at);
    weights.set(table.subarray(at, at + head));
    weights.set(table.subarray(0, width - head), head);
    for (let t = 0; t < inputs.length; t++) outputs[t]![row] = dot(weights, inputs[t]!);
  }
  return outputs;
}

function dot(weights: Float32Array, input: Float64Array): number {
  let [a, b] = [0, 0];
  for (let i = 0; i < input.length; i += 2) {
    a += (weights[i] as number) * (input[i] as number);
    b += (weights[i + 1] as number) * (input[i + 1] as number);
  }
  return a + b;
}

function normalise(row: Float64Array): Float64Array {
  const mean = row.reduce((sum, value) => sum + value * value, 0) / row.length;
  const factor = 1 / Math.sqrt(mean + EPSILON);
  return row.map((value) => value * factor);
}

/** Rotary embedding of every head of a row, in place. */
function rotate(row: Float64Array, position: number): void {
  const half = HEAD_DIM / 2;
  for (let head = 0; head < row.length; head += HEAD_DIM) {
    for (let i = 0; i < half; i++) {
      const angle = position * THETA ** (-2 * i / HEAD_DIM);
      const [x, y] = [row[head + i] as number, row[head + half + i] as number];
      row[head + i] = x * Math.cos(angle) - y * Math.sin(angle);
      row[head + half + i] = y * Math.cos(angle) + x * Math.sin(angle);
    }
  }
}

/** Causal attention of the token at `position`, all heads. */
function attend(
  q: readonly Float64Array[],
  k: readonly Float64Array[],
  v: readonly Float64Array[],
  position: number,
): Float64Array {
  const out = new Float64Array(HEADS * HEAD_DIM);
  for (let head = 0; head < HEADS; head++) {
    const kv = Math.floor(head * KV_HEADS / HEADS) * HEAD_DIM;
    const scores = k.slice(0, position + 1).map((key) => {
      let sum = 0;
      for (let i = 0; i < HEAD_DIM; i++) {
        sum += (q[position]![head * HEAD_DIM + i] as number) * (key[kv + i] as number);
      }
      return sum / Math.sqrt(HEAD_DIM);
    });
    const largest = Math.max(...scores);
    const exponentials = scores.map((score) => Math.exp(score - largest));
    const total = exponentials.reduce((a, b) => a + b);
    exponentials.forEach((share, t) => {
      for (let i = 0; i < HEAD_DIM; i++) {
        out[head * HEAD_DIM + i]! += share / total * (v[t]![kv + i] as number);
      }
    });
  }
  return out;
}
