/** The rotary settings of a config.json, in the spelling of transformers 4 or 5. */

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
 * `rope_theta` inside (5).
 *
 * Of a family with settings for each type of layer, version 4 has the θ of layers with a window as
 * `rope_local_base_freq` and scales the other layers only; version 5 keys all by the type.
 */
export function readRopeConfigs(
  config: Fields,
  { theta, ...facts }: RopeFacts & { readonly theta: ThetaDefaults },
): { readonly rope: RopeConfig; readonly slidingRope: RopeConfig | undefined } {
  const key = config.value("rope_scaling") !== undefined ? "rope_scaling" : "rope_parameters";
  const parameters = config.object(key);
  const full = parameters?.object("full_attention");
  const sliding = parameters?.object("sliding_attention");
  if (theta.sliding === undefined) {
    // Keyed by layer type, as other families have it, every field would look absent.
    const layerType = full === undefined ? "sliding_attention" : "full_attention";
    if (full !== undefined || sliding !== undefined) {
      parameters?.fail(
        layerType,
        "this architecture has one set of rope parameters for all layers",
      );
    }
    return { rope: readRope(config, parameters, facts, theta.full), slidingRope: undefined };
  }
  const local = config.number("rope_local_base_freq", THETA_RULE, theta.sliding);
  return {
    rope: readRope(
      config,
      full ?? (sliding === undefined ? parameters : undefined),
      facts,
      theta.full,
    ),
    slidingRope: sliding === undefined
      ? { theta: local, rotaryDim: readRotaryDim(config, facts.headDim), scaling: { kind: "none" } }
      : readRope(sliding, sliding, facts, local),
  };
}

function readRope(
  config: Fields,
  parameters: Fields | undefined,
  facts: RopeFacts,
  thetaDefault: number,
): RopeConfig {
  const holding = (field: string) => parameters?.value(field) === undefined ? config : parameters;
  const theta = holding("rope_theta").number("rope_theta", THETA_RULE, thetaDefault);
  const rotaryDim = readRotaryDim(holding("partial_rotary_factor"), facts.headDim);
  return {
    theta,
    rotaryDim,
    scaling: parameters === undefined
      ? { kind: "none" }
      : readScaling(config, parameters, { ...facts, rotaryDim }),
  };
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

function readScaling(
  config: Fields,
  parameters: Fields,
  facts: RopeFacts & { readonly rotaryDim: number },
): RopeScaling {
  const key = parameters.value("rope_type") !== undefined ? "rope_type" : "type";
  const kind = parameters.optionalString(key);
  switch (kind ?? "default") {
    case "default":
      if (kind === undefined) refuseUntypedScaling(parameters);
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
