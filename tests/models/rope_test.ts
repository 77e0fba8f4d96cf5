/** Rotary tables: the frequencies of real configurations, and what is made of them. */

import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { Fields } from "../../lib/models/fields.ts";
import { ropeChoice, type RopeConfig, ropeFrequencies, ropeTable } from "../../lib/models/rope.ts";
import { readRopeConfigs } from "../../lib/models/rope_config.ts";

interface RealCase {
  readonly name: string;
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
  readonly config: Record<string, unknown>;
  readonly attentionFactor: number;
  readonly frequencies: Readonly<Record<number, number>>;
}

/** Values computed with the reference implementation from the configurations of real models. */
const REAL_CASES: readonly RealCase[] = [
  {
    name: "Llama 3.1",
    headDim: 128,
    maxPositionEmbeddings: 131_072,
    config: { rope_theta: 5e5, rope_scaling: llama3(8) },
    attentionFactor: 1,
    frequencies: {
      0: 1,
      16: 0.03760603,
      32: 0.000524846,
      40: 3.428102e-5,
      48: 6.64787e-6,
      63: 3.068926e-7,
    },
  },
  {
    name: "Llama 3.2",
    headDim: 64,
    maxPositionEmbeddings: 131_072,
    config: { rope_theta: 5e5, rope_scaling: llama3(32) },
    attentionFactor: 1,
    frequencies: {
      0: 1,
      8: 0.03760603,
      16: 0.0004295567,
      20: 8.570256e-6,
      24: 1.661967e-6,
      31: 9.418306e-8,
    },
  },
  {
    name: "EXAONE 4.0 1.2B",
    headDim: 64,
    maxPositionEmbeddings: 65_536,
    config: { rope_theta: 1e6, rope_scaling: llama3(16) },
    attentionFactor: 1,
    frequencies: {
      0: 1,
      8: 0.03162278,
      16: 0.0001574367,
      20: 1.111425e-5,
      24: 1.976423e-6,
      31: 9.624541e-8,
    },
  },
  {
    name: "Qwen3 stretched to 128k",
    headDim: 128,
    maxPositionEmbeddings: 40_960,
    config: {
      rope_theta: 1e6,
      rope_scaling: { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32_768 },
    },
    attentionFactor: 1.138629,
    frequencies: {
      0: 1,
      16: 0.03162278,
      32: 0.0006029411,
      40: 4.445699e-5,
      48: 7.905694e-6,
      63: 3.102344e-7,
    },
  },
  {
    name: "GPT-OSS",
    headDim: 64,
    maxPositionEmbeddings: 131_072,
    config: {
      rope_parameters: {
        rope_type: "yarn",
        rope_theta: 1.5e5,
        factor: 32,
        original_max_position_embeddings: 4096,
        truncate: false,
      },
    },
    attentionFactor: 1.346574,
    frequencies: {
      0: 1,
      8: 0.05081327,
      16: 0.0004564839,
      20: 1.818834e-5,
      24: 4.099978e-6,
      31: 3.023511e-7,
    },
  },
  {
    name: "dynamic scaling",
    headDim: 128,
    maxPositionEmbeddings: 2048,
    config: { rope_scaling: { type: "dynamic", factor: 2 } },
    attentionFactor: 1,
    frequencies: {
      0: 1,
      16: 0.07565303,
      32: 0.005723382,
      40: 0.001574222,
      48: 0.0004329912,
      63: 3.849273e-5,
    },
  },
  {
    name: "Gemma 3 global layers",
    headDim: 256,
    maxPositionEmbeddings: 131_072,
    config: { rope_theta: 1e6, rope_scaling: { type: "linear", factor: 8 } },
    attentionFactor: 1,
    frequencies: {
      0: 0.125,
      32: 0.003952847,
      64: 0.000125,
      80: 2.222849e-5,
      96: 3.952847e-6,
      127: 1.392467e-7,
    },
  },
];

function llama3(factor: number): Record<string, unknown> {
  return {
    rope_type: "llama3",
    factor,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
}

function read(
  config: Record<string, unknown>,
  headDim = 64,
  maxPositionEmbeddings = 4096,
): RopeConfig {
  return readRopeConfigs(Fields.ofJson("config.json", config), {
    headDim,
    maxPositionEmbeddings,
    theta: { full: 10_000 },
  }).rope;
}

for (const { name, headDim, maxPositionEmbeddings, config, ...expected } of REAL_CASES) {
  Deno.test(`Rope frequencies of ${name} are those of the reference`, () => {
    const rope = read(config, headDim, maxPositionEmbeddings);
    const frequencies = ropeFrequencies(rope, 1);
    assertEquals(frequencies.length, headDim / 2);
    for (const [index, frequency] of Object.entries(expected.frequencies)) {
      assertAlmostEquals(frequencies[Number(index)] as number, frequency, frequency * 1e-6, index);
    }
    // Position 0 turns nothing, so its cosines are the magnitude itself.
    const table = ropeTable(rope, 1);
    assertAlmostEquals(table[0] as number, expected.attentionFactor, 1e-6);
    assertEquals(table[headDim / 2], 0);
  });
}

Deno.test("A rope table holds cosines, then sines, of the product rounded to float32", () => {
  const rope: RopeConfig = { theta: 10_000, rotaryDim: 16, scaling: { kind: "none" } };
  const table = ropeTable(rope, 1001);
  const frequencies = ropeFrequencies(rope, 1);
  for (const position of [0, 1, 7, 1000]) {
    for (let i = 0; i < 8; i++) {
      const angle = Math.fround(position * (frequencies[i] as number));
      assertEquals(table[position * 16 + i], Math.fround(Math.cos(angle)));
      assertEquals(table[position * 16 + 8 + i], Math.fround(Math.sin(angle)));
    }
  }
});

Deno.test("Rope divisors divide the plain frequencies", () => {
  const plain = ropeFrequencies({ theta: 10_000, rotaryDim: 8, scaling: { kind: "none" } }, 1);
  const divisors = [1, 2, 4, 8];
  const scaling = { kind: "divisors", divisors } as const;
  const divided = ropeFrequencies({ theta: 10_000, rotaryDim: 8, scaling }, 1);
  assertEquals([...divided], divisors.map((divisor, i) => (plain[i] as number) / divisor));
});

Deno.test("A partial rotary factor shortens the table", () => {
  const rope = read({ partial_rotary_factor: 0.5 });
  assertEquals(rope.rotaryDim, 32);
  assertEquals(ropeTable(rope, 3).length, 96);
  const nested = read({ rope_parameters: { rope_type: "default", partial_rotary_factor: 0.25 } });
  assertEquals(nested.rotaryDim, 16);
});

Deno.test("The old and the new spelling of rope settings mean the same", () => {
  const { rope_theta, rope_scaling } = (REAL_CASES[0] as RealCase).config;
  const modern = { rope_parameters: { rope_theta, ...(rope_scaling as Record<string, unknown>) } };
  assertEquals(read({ rope_theta, rope_scaling }), read(modern));
});

Deno.test("Both spellings of rope settings at once are one, where they agree", () => {
  const { rope_theta, rope_scaling } = (REAL_CASES[0] as RealCase).config;
  const settings = rope_scaling as Record<string, unknown>;
  const expected = read({ rope_theta, rope_scaling });
  const rope_parameters = { rope_theta, ...settings };
  assertEquals(read({ rope_scaling, rope_parameters }), expected);
  assertEquals(read({ rope_theta, rope_scaling, rope_parameters }), expected);
  // One of them may leave to the other what it does not say.
  assertEquals(read({ rope_scaling, rope_parameters: { rope_theta } }), expected);
  assertEquals(read({ rope_theta, rope_scaling: {}, rope_parameters: settings }), expected);
});

Deno.test("YaRN takes its missing settings from the config around it", () => {
  const scaling = read(
    { rope_scaling: { type: "yarn" }, original_max_position_embeddings: 1024 },
    64,
    4096,
  ).scaling;
  assertEquals(scaling, {
    kind: "yarn",
    factor: 4,
    attentionFactor: 0.1 * Math.log(4) + 1,
    betaFast: 32,
    betaSlow: 1,
    truncate: true,
    originalMaxPositions: 1024,
  });
  const both = { type: "yarn", factor: 4, mscale: 1, mscale_all_dim: 1 };
  const magnitude = read({ rope_scaling: both }).scaling;
  assertEquals(magnitude.kind === "yarn" && magnitude.attentionFactor, 1);
});

Deno.test("YaRN's ramp begins and ends within the frequencies, however long the context was", () => {
  const rope: RopeConfig = {
    theta: 10,
    rotaryDim: 16,
    scaling: {
      kind: "yarn",
      factor: 4,
      attentionFactor: 1,
      betaFast: 1e6,
      betaSlow: 1,
      truncate: true,
      originalMaxPositions: 1e6,
    },
  };
  ropeFrequencies(rope, 1).forEach((frequency, i) => {
    const plain = 10 ** (-2 * i / 16);
    const ramp = i / 15; // from max(…, 0) to min(…, rotaryDim − 1)
    const expected = plain * (1 - ramp) + plain / 4 * ramp;
    assertAlmostEquals(frequency, expected, expected * 1e-6, `frequency ${i}`);
  });
});

function longrope(): Record<string, unknown> {
  return {
    type: "longrope",
    short_factor: Array.from({ length: 32 }, (_, i) => 1 + i / 64),
    long_factor: Array.from({ length: 32 }, (_, i) => 1 + i),
    original_max_position_embeddings: 512,
  };
}

Deno.test("Longrope has a table for contexts within the original one, and one for all others", () => {
  const rope = read({ rope_scaling: longrope() }, 64, 4096);
  for (
    const [length, divisor] of [[512, (i: number) => 1 + i / 64], [
      513,
      (i: number) => 1 + i,
    ]] as const
  ) {
    const table = ropeTable(rope, length);
    const magnitude = Math.sqrt(1 + Math.log(8) / Math.log(512)); // factor 4096 / 512
    for (let i = 0; i < 32; i++) {
      const frequency = 1 / (divisor(i) * 10_000 ** (2 * i / 64));
      for (const position of [0, 1, 511]) {
        const row = position * 64;
        const angle = position * frequency;
        assertAlmostEquals(table[row + i] as number, Math.cos(angle) * magnitude, 1e-4);
        assertAlmostEquals(table[row + 32 + i] as number, Math.sin(angle) * magnitude, 1e-4);
      }
    }
  }
  assertEquals(ropeChoice(rope, 512), "longrope short");
  assertEquals(ropeChoice(rope, 513), "longrope long");
  const stated = read({ rope_scaling: { ...longrope(), attention_factor: 1.5 } }, 64, 4096);
  assertEquals(ropeTable(stated, 1)[0], 1.5);
  const within = read({ rope_scaling: longrope() }, 64, 512);
  assertEquals(ropeTable(within, 1)[0], 1);
});

const REFUSED: readonly [what: string, config: Record<string, unknown>, says: string][] = [
  ["the old name of longrope", { rope_scaling: { type: "su" } }, 'rope_scaling.type "su"'],
  ["sections", { rope_scaling: { type: "mrope", mrope_section: [16, 24, 24] } }, '"mrope"'],
  ["dynamic scaling by alpha", { rope_scaling: { type: "dynamic", alpha: 1000 } }, "alpha 1000"],
  ["dynamic scaling without factor", { rope_scaling: { type: "dynamic" } }, "rope_scaling.factor"],
  ["longrope without lists", { rope_scaling: { type: "longrope" } }, "rope_scaling.short_factor"],
  [
    "a list of longrope of the wrong length",
    { rope_scaling: { ...longrope(), long_factor: [1, 2, 3] } },
    "rope_scaling.long_factor [1,2,3]",
  ],
  [
    "a divisor of longrope that is 0",
    { rope_scaling: { ...longrope(), short_factor: new Array(32).fill(0) } },
    "32 numbers above 0",
  ],
  [
    "a magnitude of each list",
    { rope_scaling: { ...longrope(), long_mscale: 1.2 } },
    "long_mscale 1.2",
  ],
  ["an unknown type", { rope_parameters: { rope_type: "spiral" } }, "rope_parameters.rope_type"],
  ["a scaling without factor", { rope_scaling: { type: "linear" } }, "rope_scaling.factor"],
  ["a factor below 1", { rope_scaling: { type: "linear", factor: 0.5 } }, "0.5"],
  ["a theta that is no number", { rope_theta: "1e6" }, "rope_theta"],
  ["a scaling that is no object", { rope_scaling: "yarn" }, "rope_scaling"],
  ["settings a layer type", { rope_parameters: { full_attention: {} } }, "full_attention"],
  [
    "two spellings of other types",
    { rope_scaling: { type: "linear", factor: 2 }, rope_parameters: { rope_type: "default" } },
    'rope_scaling is {"type":"linear","factor":2}, and where both are there',
  ],
  [
    "two spellings of other factors",
    {
      rope_scaling: { type: "yarn", factor: 2 },
      rope_parameters: { rope_type: "yarn", factor: 4 },
    },
    'rope_parameters {"rope_type":"yarn","factor":4}',
  ],
  [
    "two thetas",
    { rope_theta: 1e6, rope_parameters: { rope_theta: 1e4 } },
    'rope_theta 1000000 of "config.json": rope_parameters.rope_theta is 10000',
  ],
  [
    "two thetas of two spellings",
    { rope_scaling: { rope_theta: 5e5 }, rope_parameters: { rope_theta: 1e4 } },
    "rope_parameters.rope_theta 10000",
  ],
  [
    "two rotary parts",
    { partial_rotary_factor: 0.5, rope_parameters: { partial_rotary_factor: 0.25 } },
    "rope_parameters.partial_rotary_factor is 0.25",
  ],
  [
    "two names of the type",
    { rope_scaling: { type: "linear", rope_type: "dynamic", factor: 2 } },
    'rope_scaling.type "linear"',
  ],
  ["a rotary part not in eights", { partial_rotary_factor: 0.3 }, "partial_rotary_factor"],
  [
    "llama3 factors in the wrong order",
    { rope_scaling: { ...llama3(8), high_freq_factor: 1 } },
    "high_freq_factor",
  ],
];

for (const [what, config, says] of REFUSED) {
  Deno.test(`Rope settings with ${what} are refused by name`, () => {
    const error = assertThrows(() => read(config), CheckpointError, says);
    assertEquals(error.file, "config.json");
  });
}
