/** The SDK names its parameters in camelCase and words errors its own way; wire clients know these. */

import type { InvalidParameterError } from "../base/errors.ts";
import { SAMPLING_FIELDS } from "../sampling/params.ts";

/**
 * What a client reads of a parameter that cannot be used.
 *
 * @param name The field, as the request spells it.
 */
export function wireWords(error: InvalidParameterError, name: string): string {
  const { parameter, value, message } = error;
  switch (parameter) {
    case "n":
    case "bestOf":
      return countWords(error, name);
    case "temperature":
      if (!Number.isFinite(value)) return `temperature must be a finite number, got ${value}.`;
      if (Number(value) < 0) return `temperature must be non-negative, got ${value}.`;
      return `temperature must be in [0, 2], got ${value}.`;
    case "topP":
      return `top_p must be in (0, 1], got ${value}.`;
    case "topK":
      if (Number(value) >= 1) break;
      return `top_k must be 0 (disable), or at least 1, got ${value}.`;
    case "minP":
      return `min_p must be in [0, 1], got ${value}.`;
    case "repetitionPenalty":
      if (Number(value) > 0) break;
      return `repetition_penalty must be greater than zero, got ${value}.`;
    case "presencePenalty":
    case "frequencyPenalty":
      return `${name} must be in [-2, 2], got ${value}.`;
    case "maxTokens":
      if (Number(value) >= 1) break;
      return `${name} must be at least 1, got ${value}.`;
    case "minTokens":
      return minTokensWords(error);
    case "badWords":
      if (typeof value !== "number") break;
      return `Too many bad words after tokenization: ${value}. The max number is 128.`;
    case "promptTokenIds":
      if (typeof value === "number") return `Token id ${value} is out of vocabulary`;
      return "The decoder prompt cannot be empty";
    case "lengthPenalty":
      if (!Number.isFinite(value)) break;
      return "length_penalty is not effective and must be the default value of 1.0 when not " +
        "using beam search.";
    case "earlyStopping":
      return "early_stopping is not effective and must be False when not using beam search.";
  }
  return inSnakeCase(message.replaceAll(parameter, name));
}

/** A message may name other parameters as well. */
function inSnakeCase(message: string): string {
  return message.replace(
    PARAMETERS,
    (word) => word.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
  );
}

const PARAMETERS = new RegExp(
  `\\b(?:${SAMPLING_FIELDS.filter((name) => /[A-Z]/.test(name)).join("|")})\\b`,
  "g",
);

/** The limit may be the request's own, a default, or the room that the prompt leaves. */
function minTokensWords({ value, message }: InvalidParameterError): string {
  if (Number(value) < 0) return `min_tokens must be greater than or equal to 0, got ${value}.`;
  const limit = /maxTokens, which is (\d+)$/.exec(message)?.[1];
  if (limit === undefined) return inSnakeCase(message);
  return `min_tokens must be less than or equal to max_tokens=${limit}, got ${value}.`;
}

/** Of the number of answers. */
function countWords({ value, message }: InvalidParameterError, name: string): string {
  const count = Number(value);
  if (count < 1) return `${name} must be at least 1, got ${value}.`;
  if (count > 128) return `${name} must be at most 128, got ${value}.`;
  if (message.includes("greedy")) {
    return `${name} must be 1 when using greedy sampling, got ${value}.`;
  }
  if (count > 64) return `${name} must be at most 64 when using beam search, got ${value}.`;
  return `${name} must be greater than 1 when using beam search. Got ${value}.`;
}
