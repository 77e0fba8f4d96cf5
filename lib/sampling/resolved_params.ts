/** Sampling parameters with every default filled in: what the engine works with. */

import { checkGreedy, checkMinFitsMax, clampTemperature } from "./param_checks.ts";
import type { EarlyStopping, LogitsProcessor, RepetitionDetection } from "./param_options.ts";
import type { SamplingParams } from "./params.ts";
import type { Seed } from "./random.ts";

/** The middle tier of defaults: what the model or the kind of call prefers where a request is silent. */
export interface SamplingDefaults {
  /** Used where a request names no temperature. */
  readonly temperature?: number;
  /** Used where a request names no topP. */
  readonly topP?: number;
  /** Used where a request names no topK. */
  readonly topK?: number;
  /** Used where a request names no minP. */
  readonly minP?: number;
  /** Used where a request names no repetitionPenalty. */
  readonly repetitionPenalty?: number;
  /** Cut to the room left in the context, unlike a `maxTokens` that a request names itself. */
  readonly maxTokens?: number | null;
  /** The most that any request gets; what asks for more is cut. */
  readonly maxTokensLimit?: number;
}

/** What texts among the parameters stand for; whoever has the tokenizer tells. */
export interface TokenizedParams {
  /** One or two for each of `badWords`. */
  readonly badTokenSequences?: readonly (readonly number[])[];
  /** `forcedOutput`, where that is a text. */
  readonly forcedTokenIds?: readonly number[];
}

/** How a beam search goes. */
export interface BeamParams {
  /** Sequences that are kept alive. At least 2. */
  readonly width: number;
  /** The exponent of the length that a score is divided by. */
  readonly lengthPenalty: number;
  /** When the search is over. */
  readonly earlyStopping: EarlyStopping;
}

/** Parameters with every default filled in, texts as tokens: what the engine works with. */
export interface ResolvedSamplingParams {
  /** Sequences that are returned. */
  readonly n: number;
  /** Sequences that are generated; at least n. Of a beam search, its width. */
  readonly bestOf: number;
  /** null: tokens are drawn one after another. */
  readonly beam: BeamParams | null;
  /** 0 is greedy, then the filters below are off; otherwise at least 0.01. */
  readonly temperature: number;
  /** 1: off. */
  readonly topP: number;
  /** 0: off. */
  readonly topK: number;
  /** 0: off. */
  readonly minP: number;
  /** 1: off. */
  readonly repetitionPenalty: number;
  /** 0: off. */
  readonly presencePenalty: number;
  /** 0: off. */
  readonly frequencyPenalty: number;
  /** Token id → bias; may be empty. */
  readonly logitBias: ReadonlyMap<number, number>;
  /** null: all. */
  readonly allowedTokenIds: readonly number[] | null;
  /** Sequences that must not be completed; may be empty, each holds at least one token. */
  readonly badTokenSequences: readonly (readonly number[])[];
  /** May be empty. */
  readonly logitsProcessors: readonly LogitsProcessor[];
  /** null: the tokens are chosen. */
  readonly forcedTokenIds: readonly number[] | null;
  /** null: none was asked for. */
  readonly seed: Seed | null;
  /** Each once; may be empty. */
  readonly stopTokenIds: readonly number[];
  /** The model's end tokens do not end the output. */
  readonly ignoreEos: boolean;
  /** null: the room left in the context. */
  readonly maxTokens: number | null;
  /** `maxTokens` is a default: cut it to the room left instead of refusing the request. */
  readonly cutMaxTokens: boolean;
  /** 0: off. */
  readonly minTokens: number;
  /** null: none; 0: the chosen token only. */
  readonly logprobs: number | null;
  /** null: the most likely tokens are reported; otherwise these are. */
  readonly logprobTokenIds: readonly number[] | null;
  /** null: none; −1: the whole vocabulary. */
  readonly promptLogprobs: number | null;
  /** For whoever turns the tokens into text. */
  readonly skipSpecialTokens: boolean;
  /** null: off. For the same. */
  readonly repetitionDetection: RepetitionDetection | null;
}

/**
 * Fills in what is absent: the request first, then the defaults of the model, then the neutral value.
 *
 * @param params What the request asks for.
 * @param defaults The middle tier. Its values are checked by whoever reads them from a file.
 * @param tokenized What the texts among the parameters are as tokens.
 * @returns Plain data with every field present.
 * @throws {InvalidParameterError} Something that came from the defaults contradicts the request.
 */
export function resolveSamplingParams(
  params: SamplingParams,
  defaults: SamplingDefaults = {},
  tokenized: TokenizedParams = {},
): ResolvedSamplingParams {
  const { n = 1, bestOf = n, minTokens = 0, forcedOutput } = params;
  const beam = params.useBeamSearch !== true ? null : {
    width: bestOf,
    lengthPenalty: params.lengthPenalty ?? 1,
    earlyStopping: params.earlyStopping ?? false,
  };
  const temperature = clampTemperature(params.temperature ?? defaults.temperature ?? 1);
  if (beam === null) checkGreedy(temperature, n, bestOf);
  // Nothing of what makes up a draw has an effect on a search.
  const filtersAreOff = temperature === 0 || beam !== null;
  const { maxTokens, isCut } = limitTokens(params.maxTokens, defaults);
  if (maxTokens !== null) checkMinFitsMax(minTokens, maxTokens);
  return {
    n,
    bestOf,
    beam,
    temperature: beam === null ? temperature : 0,
    topP: filtersAreOff ? 1 : params.topP ?? defaults.topP ?? 1,
    topK: filtersAreOff ? 0 : Math.max(0, params.topK ?? defaults.topK ?? 0),
    minP: filtersAreOff ? 0 : params.minP ?? defaults.minP ?? 0,
    repetitionPenalty: params.repetitionPenalty ?? defaults.repetitionPenalty ?? 1,
    presencePenalty: params.presencePenalty ?? 0,
    frequencyPenalty: params.frequencyPenalty ?? 0,
    logitBias: params.logitBias ?? new Map(),
    allowedTokenIds: params.allowedTokenIds ?? null,
    badTokenSequences: tokenized.badTokenSequences ?? [],
    logitsProcessors: params.logitsProcessors ?? [],
    forcedTokenIds: typeof forcedOutput === "object"
      ? forcedOutput
      : tokenized.forcedTokenIds ?? null,
    seed: params.seed === undefined || params.seed === -1 ? null : params.seed,
    stopTokenIds: params.stopTokenIds ?? [],
    ignoreEos: params.ignoreEos ?? false,
    maxTokens,
    cutMaxTokens: params.maxTokens === undefined || isCut,
    minTokens,
    logprobs: params.logprobs ?? null,
    logprobTokenIds: params.logprobTokenIds ?? null,
    promptLogprobs: params.promptLogprobs ?? null,
    skipSpecialTokens: params.skipSpecialTokens ?? true,
    repetitionDetection: params.repetitionDetection ?? null,
  };
}

/** What a request asks for, else the default, but no more than the limit. null: all there is room for. */
function limitTokens(
  asked: number | null | undefined,
  { maxTokens: standard = null, maxTokensLimit: limit = Infinity }: SamplingDefaults,
): { readonly maxTokens: number | null; readonly isCut: boolean } {
  const wanted = asked === undefined ? standard : asked;
  const isCut = (wanted ?? Infinity) > limit;
  return { maxTokens: isCut ? limit : wanted, isCut };
}
