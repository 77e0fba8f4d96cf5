/** Quantised safetensors: models compute with their values exactly, and what does not fit is refused. */

import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { sourceRowBytes } from "../../lib/device/block_formats.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { readTensorF32 } from "../../lib/models/head_tensors.ts";
import { Random, randomSeed } from "../device/kernel_contract.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { modelLogits } from "../helpers/model_logits.ts";
import { QUANTIZED_KINDS, type QuantizedKind } from "../helpers/quantized_parts.ts";
import type { SafetensorsPart } from "../helpers/safetensors_writer.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

/** The sizes of a golden model, wide enough for groups and for blocks that are not full. */
function tiny(config: Record<string, unknown>) {
  const golden = goldenModel("llama");
  return {
    ...golden,
    config: {
      ...golden.config,
      hidden_size: 192,
      intermediate_size: 320,
      num_hidden_layers: 1,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      ...config,
    },
  };
}

const isQuantized = (name: string) => name.endsWith("_proj.weight");

/** Writes a checkpoint of a kind; `change` may touch the parts of every matrix. */
function writeKind(
  dir: string,
  { config, make }: QuantizedKind,
  random: Random,
  options: {
    readonly sizes?: Record<string, unknown>;
    readonly change?: (parts: readonly SafetensorsPart[]) => readonly SafetensorsPart[];
  } = {},
): Map<string, Float32Array> {
  const { sizes = {}, change = (parts) => parts } = options;
  const values = new Map<string, Float32Array>();
  writeTinyModel(dir, tiny({ ...sizes, quantization_config: config }), {
    replace({ name, shape }) {
      if (!isQuantized(name)) return undefined;
      const made = make(name, shape[0]!, shape[1]!, random);
      values.set(name, made.values);
      return change(made.parts);
    },
  });
  return values;
}

for (const kind of QUANTIZED_KINDS) {
  Deno.test(`A checkpoint of ${kind.what} has the logits of its values as float32, bit for bit`, async () => {
    const random = new Random(randomSeed());
    const dir = await Deno.makeTempDir();
    try {
      const values = writeKind(`${dir}/a`, kind, random);
      writeTinyModel(`${dir}/b`, tiny({}), { values: Object.fromEntries(values) });
      const ids = [5, 80, 3, 44, 17, 91, 2];
      const expected = await modelLogits(`${dir}/b`, ids, { threads: 0 });
      assert(expected.every((row) => row.every(Number.isFinite)), `${random}`);
      assertEquals(await modelLogits(`${dir}/a`, ids), expected, `${random}`);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

Deno.test("Matrices of any size are read exactly, whole groups or not", async () => {
  const random = new Random(randomSeed());
  for (const kind of QUANTIZED_KINDS) {
    // A group must be whole; blocks, channels and tensors need not be.
    const step = /W4|W8A16 with|FP4/.test(kind.what) ? 64 : 8;
    const dir = await Deno.makeTempDir();
    try {
      const sizes = {
        hidden_size: step * random.integer(3, 12),
        intermediate_size: step * random.integer(1, 40),
        head_dim: step === 64 ? 16 : 8,
      };
      const values = writeKind(dir, kind, random, { sizes });
      using checkpoint = await openCheckpoint(dir);
      for (const [name, expected] of values) {
        const { format, shape, sizeBytes } = checkpoint.tensors.get(name)!;
        assertEquals(sizeBytes, shape[0]! * sourceRowBytes(format, shape[1]!));
        const found = readTensorF32(checkpoint, name);
        const at = expected.findIndex((value, i) => value !== found[i]);
        assert(at < 0, `${random}: ${kind.what} ${name} [${shape}] ${at}: ${found[at]}`);
      }
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  }
});

const kind = (what: string) => QUANTIZED_KINDS.find((each) => each.what === what)!;
type Change = (parts: readonly SafetensorsPart[]) => readonly SafetensorsPart[];

/** The part whose name ends so, changed; undefined drops it. */
function changed(
  suffix: string,
  change: (part: SafetensorsPart) => SafetensorsPart | undefined,
): Change {
  return (parts) => parts.flatMap((part) => part.name.endsWith(suffix) ? change(part) ?? [] : part);
}

const beside =
  (suffix: string, dtype: string, shape: readonly number[], size: number): Change => (parts) => [
    ...parts,
    {
      name: parts[0]!.name.replace(/weight.*$/, suffix),
      dtype,
      shape,
      bytes: new Uint8Array(size),
    },
  ];

const REFUSED: readonly (readonly [string, QuantizedKind, Change, string])[] = [
  [
    "a scale that is missing",
    kind("fp8 by blocks"),
    changed("_scale_inv", () => undefined),
    'q_proj.weight_scale_inv" or',
  ],
  [
    "a scale of another shape",
    kind("fp8 by blocks"),
    changed("_scale_inv", (part) => ({ ...part, shape: [4], bytes: new Uint8Array(16) })),
    "it must be [2, 2], as weight_block_size of config.json is [128, 128]",
  ],
  [
    "a scale of another type",
    kind("float-quantized by tensor"),
    changed("_scale", (part) => ({ ...part, dtype: "I32" })),
    "it is of type I32: it must be F32, F16, BF16",
  ],
  [
    "zero points of floats",
    kind("float-quantized by channel"),
    beside("weight_zero_point", "I8", [192, 1], 192),
    "weights that are floats have no zero points",
  ],
  [
    "zero points that are missing",
    kind("W4A16 with zero points"),
    changed("_zero_point", () => undefined),
    'weight_zero_point" is missing',
  ],
  [
    "an order of columns",
    kind("W4A16 by groups of 32"),
    beside("weight_g_idx", "I32", [192], 768),
    "actorder",
  ],
  [
    "a shape before packing that is another",
    kind("W4A16 by groups of 32"),
    changed("weight_shape", (part) => ({ ...part, bytes: new Uint8Array(16) })),
    "it is [0, 0], but the config calls for [192, 192]",
  ],
  [
    "packed words of another shape",
    kind("W4A16 by groups of 32"),
    changed("_packed", (part) => ({ ...part, shape: [part.shape[1]!, part.shape[0]!] })),
    "with four bits",
  ],
  [
    "a global scale that is missing",
    kind("NVFP4A16"),
    changed("_global_scale", () => undefined),
    'weight_global_scale" is missing',
  ],
  [
    "a global scale of zero",
    kind("NVFP4A16"),
    changed("_global_scale", (part) => ({ ...part, bytes: new Uint8Array(4) })),
    "it is 0: it must be above 0 and finite",
  ],
  [
    "a float weight with a scale",
    kind("float-quantized by channel"),
    changed("weight", (part) => ({
      ...part,
      dtype: "F16",
      bytes: new Uint8Array(2 * part.bytes.length),
    })),
    "a weight with a scale must be F8_E4M3",
  ],
  [
    "a tensor of unknown use",
    kind("int-quantized"),
    beside("weight_bitmask", "U8", [8], 8),
    "no such tensor",
  ],
];

for (const [what, of, change, says] of REFUSED) {
  Deno.test(`A quantised checkpoint is refused for ${what}`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      writeKind(dir, of, new Random(1), { change });
      const error = await assertRejects(() => openCheckpoint(dir), CheckpointError);
      assertStringIncludes(error.message, says);
      assertStringIncludes(error.message, `${dir}/model.safetensors`);
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

const numbers = (value: number): Change =>
  changed("_scale", (part) => {
    const values = new Float32Array(part.bytes.length / 4).fill(value);
    return { ...part, dtype: "F32", bytes: new Uint8Array(values.buffer) };
  });

for (
  const [value, says] of [
    [NaN, "it holds NaN, and scales must be finite"],
    [Infinity, "it holds Infinity, and scales must be finite"],
    [0, "column 0 is 0, but the weight there is not"],
  ] as const
) {
  Deno.test(`Scales of ${value} are refused where weights are read`, async () => {
    const dir = await Deno.makeTempDir();
    try {
      writeKind(dir, kind("float-quantized by tensor"), new Random(1), { change: numbers(value) });
      using checkpoint = await openCheckpoint(dir);
      const [name, { sizeBytes, shape }] = [...checkpoint.tensors]
        .find(([name]) => name.endsWith("q_proj.weight"))!;
      const error = assertThrows(
        () => checkpoint.readRows(name, 0, shape[0]!, new Uint8Array(sizeBytes)),
        CheckpointError,
      );
      assertStringIncludes(error.message, says);
      assertStringIncludes(error.message, "q_proj.weight_scale");
    } finally {
      await Deno.remove(dir, { recursive: true });
    }
  });
}

Deno.test("Without a config of quantisation a scale is refused, and bytes are the numbers they are", async () => {
  const dir = await Deno.makeTempDir();
  try {
    const of = kind("float-quantized by channel");
    writeKind(`${dir}/a`, { ...of, config: undefined! }, new Random(1));
    const error = await assertRejects(() => openCheckpoint(`${dir}/a`), CheckpointError);
    assertStringIncludes(error.message, 'no "quantization_config"');
    for (const dtype of ["F8_E4M3", "F8_E5M2", "I8", "U8"]) {
      writeTinyModel(`${dir}/b`, tiny({}), {
        replace: ({ name, shape }) =>
          isQuantized(name)
            ? [{ name, dtype, shape, bytes: new Uint8Array(shape[0]! * shape[1]!).fill(0xc1) }]
            : undefined,
      });
      using checkpoint = await openCheckpoint(`${dir}/b`);
      const values = readTensorF32(checkpoint, "model.layers.0.mlp.up_proj.weight");
      const right = { F8_E4M3: -2.25, F8_E5M2: -2.5, I8: -63, U8: 193 }[dtype];
      assert(values.every((value) => value === right), `${dtype}: ${values[0]}`);
    }
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});
