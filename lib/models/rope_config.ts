/** The rotary settings of a config.json, in the spelling of transformers 4 or 5. */

import { isRecord } from "../base/record.ts";
import type { Fields } from "./fields.ts";
import type { RopeConfig, RopeScaling } from "./rope.ts";

const FACTOR_MAX = 10_000;

/** What every scaling depends on. */
interface RopeFacts {
  readonly headDim: number;
  readonly maxPositionEmbeddings: number;
}

/** θ where the file is silent. With `sliding`, layers with a window have settings of their own. */
interface ThetaDefaults {
  readonly full: number;
  readonly sliding?: number;
}

const THETA_RULE = { min: 1, max: 1e12, aboveMin: true };

/**
 * Reads `rope_scaling` with `rope_theta` beside it (transformers 4), or `rope_parameters` with
 * `rope_theta` inside (5). A file may have both spellings, as long as they say the same.
 *
 * Of a family with settings for each type of layer, version 4 has the θ of layers with a window as
 * `rope_local_base_freq` and scales the other layers only; version 5 keys all by the type.
 */
export function readRopeConfigs(
  config: Fields,
  { theta, ...facts }: RopeFacts & { readonly theta: ThetaDefaults },
): { readonly rope: RopeConfig; readonly slidingRope: RopeConfig | undefined } {
  const stated = SPELLINGS.flatMap((key) => config.object(key) ?? []);
  for (const parameters of stated) checkLayerTypes(parameters, theta.sliding !== undefined);
  const full = stated.flatMap((parameters) =>
    isKeyed(parameters) ? parameters.object("full_attention") ?? [] : parameters
  );
  const rope = readRope(config, full, facts, {
    holders: [...full, config].map((fields) => [fields, "rope_theta"] as const),
    fallback: theta.full,
  });
  if (theta.sliding === undefined) return { rope, slidingRope: undefined };
  const sliding = stated.flatMap((parameters) => parameters.object("sliding_attention") ?? []);
  return {
    rope,
    slidingRope: readRope(config, sliding, facts, {
      holders: [
        ...sliding.map((fields) => [fields, "rope_theta"] as const),
        [config, "rope_local_base_freq"],
      ],
      fallback: theta.sliding,
    }),
  };
}

const SPELLINGS = ["rope_scaling", "rope_parameters"];
const LAYER_TYPES = ["full_attention", "sliding_attention"];

function isKeyed(parameters: Fields): boolean {
  return LAYER_TYPES.some((type) => parameters.value(type) !== undefined);
}

/** Keyed by layer type where a family has no types, or half keyed: settings would look absent. */
function checkLayerTypes(parameters: Fields, hasTypes: boolean): void {
  const type = parameters.keys().find((key) => isRecord(parameters.value(key)));
  if (type === undefined) return;
  if (!hasTypes) {
    parameters.fail(type, "this architecture has one set of rope parameters for all layers");
  }
  if (!LAYER_TYPES.includes(type)) {
    parameters.fail(type, `layers are of ${LAYER_TYPES.join(" or ")}`);
  }
  const beside = ["rope_type", "type", "rope_theta", "factor"]
    .find((key) => parameters.value(key) !== undefined);
  if (beside !== undefined) {
    parameters.fail(beside, `it must stand in ${LAYER_TYPES.join(" or ")}, as others here do`);
  }
}

/** Where a number may stand, by its name there. */
type Holder = readonly [fields: Fields, key: string];

/** `stated` are the sets of settings that the file has for these layers: none, one or two. */
function readRope(
  config: Fields,
  stated: readonly Fields[],
  { headDim, ...facts }: RopeFacts,
  theta: { readonly holders: readonly Holder[]; readonly fallback: number },
): RopeConfig {
  const partial = [...stated, config].map((fields) => [fields, "partial_rotary_factor"] as const);
  const rotaryDim = readRotaryDim(agreedHolder(partial)?.[0] ?? config, headDim);
  const [thetaHolder, thetaKey] = agreedHolder(theta.holders) ?? [config, "rope_theta"];
  return {
    theta: thetaHolder.number(thetaKey, THETA_RULE, theta.fallback),
    rotaryDim,
    scaling: readAgreedScaling(config, stated, { headDim, ...facts, rotaryDim }),
  };
}

/** The first that states the number; refused where another one states another. */
function agreedHolder(holders: readonly Holder[]): Holder | undefined {
  const [first, ...others] = holders.filter(([fields, key]) => fields.value(key) !== undefined);
  if (first === undefined) return undefined;
  const [fields, key] = first;
  for (const [other, otherKey] of others) {
    if (other.value(otherKey) === fields.value(key)) continue;
    other.fail(
      otherKey,
      `${fields.nameOf(key)} is ${fields.value(key)}, and both must say the same`,
    );
  }
  return first;
}

/** The scaling that all sets of settings ask for. One that says nothing of it takes no part. */
function readAgreedScaling(
  config: Fields,
  stated: readonly Fields[],
  facts: RopeFacts & { readonly rotaryDim: number },
): RopeScaling {
  const [first, ...others] = stated.flatMap((parameters) =>
    readScaling(config, parameters, facts) ?? []
  );
  if (others.some((other) => JSON.stringify(other) !== JSON.stringify(first))) {
    const [one, two] = SPELLINGS as [string, string];
    config.fail(
      two,
      `${one} is ${JSON.stringify(config.value(one))}, and where both are there ` +
        "they must ask for the same scaling",
    );
  }
  return first ?? { kind: "none" };
}

/** Which part of each head rotates. It must come in eights, as a head itself does. */
function readRotaryDim(fields: Fields, headDim: number): number {
  const factor = fields.number("partial_rotary_factor", { min: 0, max: 1, aboveMin: true }, 1);
  const rotaryDim = Math.trunc(headDim * factor);
  if (rotaryDim === 0 || rotaryDim % 8 !== 0) {
    fields.fail(
      "partial_rotary_factor",
      `of a head of ${headDim} it rotates ${rotaryDim}, which must be a multiple of 8`,
    );
  }
  return rotaryDim;
}

/** undefined where nothing is said of it. */
function readScaling(
  config: Fields,
  parameters: Fields,
  facts: RopeFacts & { readonly rotaryDim: number },
): RopeScaling | undefined {
  const key = parameters.value("rope_type") !== undefined ? "rope_type" : "type";
  const kind = parameters.optionalString(key);
  const old = parameters.optionalString("type");
  if (old !== undefined && old !== kind) {
    parameters.fail("type", `${parameters.nameOf(key)} is "${kind}", and both must say the same`);
  }
  switch (kind) {
    case undefined:
      refuseUntypedScaling(parameters);
      return undefined;
    case "default":
      return { kind: "none" };
    case "linear":
      return { kind: "linear", factor: readFactor(parameters) };
    case "dynamic":
      // Another formula of the same name, of Hunyuan's models.
      if (parameters.value("alpha") !== undefined) {
        parameters.fail("alpha", "dynamic scaling by alpha is not supported, only by factor");
      }
      return { kind: "dynamic", factor: readFactor(parameters) };
    case "llama3":
      return readLlama3(parameters, readOriginalMaxPositions(config, parameters, facts));
    case "yarn":
      return readYarn(parameters, readOriginalMaxPositions(config, parameters, facts), facts);
    case "longrope":
      return readLongrope(parameters, readOriginalMaxPositions(config, parameters, facts), facts);
    default:
      parameters.fail(
        key,
        'it must be "default", "linear", "dynamic", "llama3", "yarn" or "longrope"',
      );
  }
}

/** Settings of a scaling that nobody names would be left out without a word. */
function refuseUntypedScaling(parameters: Fields): void {
  const settings = ["factor", "low_freq_factor", "high_freq_factor", "short_factor", "long_factor"];
  const setting = settings.find((name) => parameters.value(name) !== undefined);
  if (setting !== undefined) {
    parameters.fail("rope_type", `it must name the scaling that ${setting} is of`);
  }
}

function readFactor(parameters: Fields): number {
  return parameters.number("factor", { min: 1, max: FACTOR_MAX });
}

function readOriginalMaxPositions(config: Fields, parameters: Fields, facts: RopeFacts): number {
  const key = "original_max_position_embeddings";
  const holder = config.value(key) !== undefined ? config : parameters;
  return holder.integer(key, { min: 2, max: 2 ** 24 }, facts.maxPositionEmbeddings);
}

function readLlama3(parameters: Fields, originalMaxPositions: number): RopeScaling {
  const lowFrequencyFactor = parameters.number("low_freq_factor", { min: 0, aboveMin: true });
  const highFrequencyFactor = parameters.number("high_freq_factor", {
    min: lowFrequencyFactor,
    aboveMin: true,
  });
  return {
    kind: "llama3",
    factor: readFactor(parameters),
    lowFrequencyFactor,
    highFrequencyFactor,
    originalMaxPositions,
  };
}

function readYarn(
  parameters: Fields,
  originalMaxPositions: number,
  facts: RopeFacts,
): RopeScaling {
  const stretch = Math.max(1, facts.maxPositionEmbeddings / originalMaxPositions);
  const factor = parameters.value("factor") === undefined ? stretch : readFactor(parameters);
  const betaSlow = parameters.number("beta_slow", { min: 0, aboveMin: true }, 1);
  return {
    kind: "yarn",
    factor,
    attentionFactor: readAttentionFactor(parameters, factor),
    betaFast: parameters.number("beta_fast", { min: betaSlow }, 32),
    betaSlow,
    truncate: parameters.boolean("truncate", true),
    originalMaxPositions,
  };
}

function readLongrope(
  parameters: Fields,
  originalMaxPositions: number,
  { rotaryDim, maxPositionEmbeddings }: RopeFacts & { readonly rotaryDim: number },
): RopeScaling {
  for (const key of ["short_mscale", "long_mscale"]) {
    if (parameters.value(key) !== undefined) {
      parameters.fail(key, "a magnitude of each list is not supported, only attention_factor");
    }
  }
  const factor = parameters.value("factor") === undefined
    ? Math.max(1, maxPositionEmbeddings / originalMaxPositions)
    : readFactor(parameters);
  return {
    kind: "longrope",
    shortDivisors: readDivisors(parameters, "short_factor", rotaryDim / 2),
    longDivisors: readDivisors(parameters, "long_factor", rotaryDim / 2),
    attentionFactor: parameters.optionalNumber("attention_factor", { min: 0, aboveMin: true }) ??
      longropeMagnitude(factor, originalMaxPositions),
    originalMaxPositions,
  };
}

function readDivisors(parameters: Fields, key: string, count: number): readonly number[] {
  const values = parameters.value(key);
  const isRight = Array.isArray(values) && values.length === count &&
    values.every((value) => typeof value === "number" && Number.isFinite(value) && value > 0);
  if (!isRight) {
    parameters.fail(key, `it must be a list of ${count} numbers above 0, half of what rotates`);
  }
  return values;
}

/** How much longrope enlarges cosines and sines when it stretches by `factor`. */
function longropeMagnitude(factor: number, originalMaxPositions: number): number {
  return factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalMaxPositions));
}

function readAttentionFactor(parameters: Fields, factor: number): number {
  const stated = parameters.optionalNumber("attention_factor", { min: 0, aboveMin: true });
  if (stated !== undefined) return stated;
  const mscale = parameters.optionalNumber("mscale", { min: 0 });
  const mscaleAllDim = parameters.optionalNumber("mscale_all_dim", { min: 0 });
  return mscale && mscaleAllDim
    ? yarnMagnitude(factor, mscale) / yarnMagnitude(factor, mscaleAllDim)
    : yarnMagnitude(factor, 1);
}

/** How much YaRN enlarges cosines and sines when it stretches by `factor`. */
export function yarnMagnitude(factor: number, scale: number): number {
  return factor <= 1 ? 1 : 0.1 * scale * Math.log(factor) + 1;
}
