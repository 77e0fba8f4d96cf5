/** What a quantization_config says of a matrix is what is stored, or the checkpoint is refused by name. */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { modulePattern } from "../../lib/models/module_pattern.ts";
import { Random } from "../device/kernel_contract.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { QUANTIZED_KINDS } from "../helpers/quantized_parts.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

type Json = Record<string, unknown>;

const Q_PROJ = "model.layers.0.self_attn.q_proj.weight";

/** Opens a checkpoint of a kind whose config says something else; `plain` matrices are F32. */
async function openKind(
  what: string,
  change: (config: { quantization: Json; group: Json; weights: Json }) => void,
  plain: (name: string) => boolean = () => false,
): Promise<void> {
  const kind = QUANTIZED_KINDS.find((each) => each.what === what)!;
  const quantization = structuredClone(kind.config) as Json;
  const groups = quantization["config_groups"] as Record<string, Json> | undefined;
  const group = groups?.["group_0"] ?? {};
  change({ quantization, group, weights: (group["weights"] ?? {}) as Json });
  const golden = goldenModel("llama");
  const config = {
    ...golden.config,
    hidden_size: 192,
    intermediate_size: 320,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    quantization_config: quantization,
  };
  const dir = await Deno.makeTempDir();
  try {
    const random = new Random(1);
    writeTinyModel(dir, { ...golden, config }, {
      replace: ({ name, shape }) =>
        name.endsWith("_proj.weight") && !plain(name)
          ? kind.make(name, shape[0]!, shape[1]!, random).parts
          : undefined,
    });
    (await openCheckpoint(dir))[Symbol.dispose]();
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const GROUPS = "W4A16 by groups of 32";
const weightsOf = (change: Json) => ({ weights }: { weights: Json }) =>
  void Object.assign(weights, change);
const groupOf = (change: Json) => ({ group }: { group: Json }) => void Object.assign(group, change);
const settingOf = (change: Json) => ({ quantization }: { quantization: Json }) =>
  void Object.assign(quantization, change);

type Case = readonly [
  what: string,
  kind: string,
  change: Parameters<typeof openKind>[1],
  says: string,
];

const REFUSED: readonly Case[] = [
  [
    "groups of another size",
    GROUPS,
    weightsOf({ group_size: 64 }),
    "config_groups.group_0.weights.group_size of config.json is 64, but it has a scale for each [1, 32]",
  ],
  ["groups of no size", GROUPS, weightsOf({ group_size: 0 }), "group_size 0"],
  ["groups without a size", GROUPS, weightsOf({ group_size: null }), "group_size"],
  [
    "a size of groups that are none",
    "float-quantized by channel",
    weightsOf({ group_size: 32 }),
    'strategy is "channel", so it must be null',
  ],
  [
    "another number of bits",
    GROUPS,
    weightsOf({ num_bits: 8 }),
    "num_bits of config.json is 8, but it is stored with 4 bits",
  ],
  [
    "more bits than there are",
    "int-quantized",
    weightsOf({ num_bits: 16 }),
    "num_bits of config.json is 16, but it is stored with 8 bits",
  ],
  [
    "another type",
    GROUPS,
    weightsOf({ type: "float" }),
    'type of config.json is "float", but it is stored as packed I32',
  ],
  ["an unknown type", GROUPS, weightsOf({ type: "nf4" }), 'type "nf4"'],
  [
    "one scale where there are many",
    "float-quantized by channel",
    weightsOf({ strategy: "tensor" }),
    'strategy of config.json is "tensor", but it has a scale for each [1, 192]',
  ],
  [
    "a scale a row where there is one",
    "float-quantized by tensor",
    weightsOf({ strategy: "channel" }),
    'strategy of config.json is "channel"',
  ],
  [
    "other blocks",
    "float-quantized by blocks",
    weightsOf({ block_structure: [64, 64] }),
    "it must be [3, 3]",
  ],
  [
    "blocks without sizes",
    "float-quantized by blocks",
    weightsOf({ block_structure: null }),
    "block_structure",
  ],
  ["a strategy of activations", GROUPS, weightsOf({ strategy: "token" }), 'strategy "token"'],
  [
    "zero points that there are not",
    GROUPS,
    weightsOf({ symmetric: false }),
    'weight_zero_point" is missing',
  ],
  [
    "no zero points where there are some",
    "int-quantized with zero points",
    weightsOf({ symmetric: true }),
    "symmetric of config.json is true, but it has zero points",
  ],
  [
    "zero points of floats",
    "float-quantized by channel",
    weightsOf({ symmetric: false }),
    "symmetric false",
  ],
  [
    "an order of columns",
    GROUPS,
    weightsOf({ actorder: "group" }),
    'config_groups.group_0.weights.actorder "group"',
  ],
  ["scales found on the way", GROUPS, weightsOf({ dynamic: true }), "weights.dynamic true"],
  [
    "another format",
    GROUPS,
    settingOf({ format: "int-quantized" }),
    'the format of quantization_config.config_groups.group_0.weights in config.json is "int-quantized"',
  ],
  [
    "another format of the group",
    "NVFP4A16",
    groupOf({ format: "mxfp4-pack-quantized" }),
    "but it is stored as NVFP4",
  ],
  [
    "a module that it leaves out",
    GROUPS,
    settingOf({ ignore: ["lm_head", "re:.*self_attn.*"] }),
    'it is quantised, but by quantization_config of config.json it is not: ignore has "re:.*self_attn.*"',
  ],
  [
    "a module that it does not target",
    GROUPS,
    groupOf({ targets: ["re:.*mlp.*"] }),
    "no group of config_groups targets it",
  ],
  [
    "a state before codes",
    GROUPS,
    settingOf({ quantization_status: "calibration" }),
    'quantization_status "calibration"',
  ],
  ["targets that are no list", GROUPS, groupOf({ targets: "Linear" }), 'targets "Linear"'],
  ["names that are no texts", GROUPS, settingOf({ ignore: [5] }), "ignore [5]"],
  ["a broken pattern", GROUPS, settingOf({ ignore: ["re:(gate"] }), '"re:(gate" is no pattern'],
  [
    "a pattern without end",
    GROUPS,
    settingOf({ ignore: ["re:(\\w+)*!"] }),
    "is no pattern that can be searched for",
  ],
  [
    "E5M2 that is E4M3",
    "fp8 by blocks",
    settingOf({ fmt: "e5m2" }),
    "it is of type F8_E4M3: by quantization_config of config.json it must be F8_E5M2",
  ],
  [
    "MXFP4 that is F8",
    "fp8 by blocks",
    settingOf({ quant_method: "mxfp4" }),
    'quant_method of config.json is "mxfp4"',
  ],
  [
    "blocks of F8 that are one",
    "fp8 as E5M2 under one scale",
    settingOf({ weight_block_size: [64, 64] }),
    "it must be [3, 3], as weight_block_size",
  ],
];

for (const [what, kind, change, says] of REFUSED) {
  Deno.test(`A quantization_config of ${what} is refused beside other weights`, async () => {
    const error = await assertRejects(() => openKind(kind, change), CheckpointError);
    assertStringIncludes(error.message, says);
  });
}

Deno.test("A projection that is not quantised is refused where the config says that it is", async () => {
  const isQuery = (name: string) => name === Q_PROJ;
  const error = await assertRejects(() => openKind(GROUPS, () => {}, isQuery), CheckpointError);
  assertStringIncludes(error.message, `tensor "${Q_PROJ}"`);
  assertStringIncludes(error.message, "config_groups.group_0.weights of config.json says");
  // Left out by name, by the end of the name, or by a pattern, it is as it should be.
  for (const skip of [Q_PROJ.slice(0, -".weight".length), "q_proj", "re:model.*\\.q_proj$"]) {
    await openKind(GROUPS, settingOf({ ignore: ["lm_head", skip] }), isQuery);
  }
});

Deno.test("A checkpoint that is called frozen is read where codes are stored, and only there", async () => {
  // As Neural Magic's first checkpoints have it, with a number that nobody reads.
  const frozen = settingOf({ quantization_status: "frozen", global_compression_ratio: 1.24 });
  for (const kind of [GROUPS, "int-quantized", "float-quantized by tensor"]) {
    await openKind(kind, frozen);
  }
  const error = await assertRejects(
    () => openKind(GROUPS, frozen, (name) => name === Q_PROJ),
    CheckpointError,
  );
  assertStringIncludes(error.message, "says that it is quantised");
});

Deno.test("MXFP4 may be called float-quantized, as AutoRound called it", async () => {
  const named =
    (bits: number) => ({ quantization, weights }: { quantization: Json; weights: Json }) => {
      quantization["format"] = "float-quantized";
      Object.assign(weights, {
        num_bits: bits,
        strategy: "tensor_group",
        group_size: 32,
        is_mx: true,
      });
    };
  await openKind("MXFP4A16", named(4));
  const error = await assertRejects(() => openKind("MXFP4A16", named(8)), CheckpointError);
  assertStringIncludes(error.message, "num_bits of config.json is 8, but it is stored with 4 bits");
});

Deno.test("A quantization_config may leave unsaid what the tensors show", async () => {
  const silent = ({ weights }: { weights: Json }) => {
    for (const key of Object.keys(weights)) delete weights[key];
  };
  for (const kind of [GROUPS, "int-quantized", "float-quantized by channel", "NVFP4A16"]) {
    await openKind(kind, silent);
  }
  await openKind(GROUPS, weightsOf({ actorder: "weight" }));
  await openKind("float-quantized by channel", weightsOf({ group_size: -1 }));
  // The groups say what "mixed-precision" means; a module's name counts before its class.
  await openKind(GROUPS, ({ quantization, group }) => {
    Object.assign(group, { format: "pack-quantized", targets: ["re:model\\.layers.*"] });
    const other = { targets: ["Linear"], weights: { num_bits: 8, type: "float" } };
    quantization["config_groups"] = { group_1: other, group_0: group };
    quantization["format"] = "mixed-precision";
  });
});

Deno.test("Patterns of modules are Python's, from the beginning, and never take long", () => {
  const matches = (text: string, name: string) => modulePattern(text)?.matches([name]);
  assertEquals(matches("re:.*gate$", "model.layers.0.mlp.gate"), true);
  assertEquals(matches("re:.*gate$", "model.layers.0.mlp.gate_proj"), false);
  assertEquals(matches("re:mlp", "model.layers.0.mlp"), false);
  assertEquals(matches("re:model", "model.layers.0.mlp"), true);
  assertEquals(matches("re:^((?!experts).)*$", "model.layers.0.mlp"), true);
  assertEquals(matches("re:model.layers.(0|1).*(q|k)_proj", "model.layers.1.x.k_proj"), true);
  assertEquals(matches("lm_head", "lm_head"), true);
  assertEquals(matches("head", "lm_head"), false);
  for (const bad of ["(a|aa)*b", "((a+)b?)+", "(a{1,9}){9}", "\\Ax", "(", "(?P<a>x)"]) {
    assertEquals(modulePattern(`re:${bad}`), undefined, bad);
  }
});
