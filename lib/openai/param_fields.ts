/** Sampling fields of a request that are more than a number or a switch: read, checked, in vLLM's words. */

import type { EarlyStopping, RepetitionDetection } from "../sampling/params.ts";
import { type Fields, readTokenId } from "./body.ts";
import { badRequest } from "./errors.ts";

/** Most tokens whose log-probabilities are asked for by id. */
const LOGPROB_ID_COUNT_MAX = 128;
/** Most items of a list that a message shows. */
const SHOWN_COUNT_MAX = 32;
/** Most stop strings. */
const STOP_COUNT_MAX = 16;

/** How many answers to return, and to generate; undefined where the request is silent. */
export function readCounts(fields: Fields): { n: number | undefined; bestOf: number | undefined } {
  const n = fields.integer("n");
  const bestOf = fields.integer("best_of");
  if (n !== undefined && n < 1) throw badRequest(`n must be at least 1, got ${n}.`, "n");
  if (bestOf !== undefined && bestOf < (n ?? 1)) {
    throw badRequest(
      `best_of must be greater than or equal to n, got n=${n ?? 1} and best_of=${bestOf}.`,
      "best_of",
    );
  }
  if (fields.boolean("stream") === true) {
    if (fields.boolean("use_beam_search") === true) {
      throw badRequest("Streaming is not currently supported with beam search", "stream");
    }
    if (bestOf !== undefined && bestOf !== (n ?? 1)) {
      throw badRequest("best_of must equal n to use output_kind=DELTA", "best_of");
    }
  }
  return { n, bestOf };
}

/** One text or several; none is absent. */
export function readStops(fields: Fields): readonly string[] | undefined {
  const value = fields.raw("stop");
  if (value === undefined) return undefined;
  if (typeof value !== "string" && !Array.isArray(value)) {
    throw fields.shapeError("stop", value, "a string or an array of strings", "list_type");
  }
  const stops = typeof value === "string" ? [value] : texts(fields, "stop");
  if (stops.includes("")) throw badRequest("stop cannot contain an empty string.", "stop");
  if (stops.length <= STOP_COUNT_MAX) return stops.length > 0 ? stops : undefined;
  throw fields.shapeError("stop", value, `at most ${STOP_COUNT_MAX} strings`, "too_long");
}

/** Words; none is absent. */
export function readBadWords(fields: Fields): readonly string[] | undefined {
  if (!fields.has("bad_words")) return undefined;
  const words = texts(fields, "bad_words");
  if (!words.includes("")) return words.length > 0 ? words : undefined;
  const shown = pythonList(words.slice(0, 8));
  throw badRequest(
    `bad_words cannot contain an empty string. Got bad_words=${shown}`,
    "bad_words",
  );
}

/** Token id → bias. JSON has only texts for keys. */
export function readLogitBias(
  fields: Fields,
  vocabSize: number,
): ReadonlyMap<number, number> | undefined {
  const biases = fields.object("logit_bias");
  const keys = Object.keys(fields.record("logit_bias") ?? {});
  if (biases === undefined || keys.length === 0) return undefined;
  const broken = keys.filter((key) => !/^\s*[+-]?\d+\s*$/.test(key));
  if (broken.length > 0) {
    throw badRequest(
      "logit_bias contains key(s) that cannot be converted to integer token IDs: " +
        pythonList(broken),
      "logit_bias",
    );
  }
  const unknown = keys.filter((key) => !(Number(key) >= 0 && Number(key) < vocabSize));
  if (unknown.length > 0) {
    throw badRequest(
      `token_id(s) [${shortList(unknown.map(Number))}] in logit_bias contain out-of-vocab ` +
        `token ids. Vocabulary size: ${vocabSize}`,
      "logit_bias",
    );
  }
  return new Map(keys.map((key) => {
    const bias = biases.number(key);
    if (bias === undefined) throw biases.shapeError(key, null, "a number", "float_type");
    return [Number(key), bias];
  }));
}

/** Tokens whose log-probabilities are wanted instead of those of the most likely. */
export function readLogprobTokenIds(
  fields: Fields,
  vocabSize: number,
  logprobs: number | undefined,
): number[] | undefined {
  const name = "logprob_token_ids";
  const ids = fields.integers(name);
  if (ids === undefined || ids.length === 0) return undefined;
  if (ids.length > LOGPROB_ID_COUNT_MAX) {
    throw fields.shapeError(name, ids, `at most ${LOGPROB_ID_COUNT_MAX} token ids`, "too_long");
  }
  if (logprobs === undefined) {
    throw badRequest(`when using \`${name}\`, \`logprobs\` must be set.`, name);
  }
  const unknown = ids.filter((id) => id < 0 || id >= vocabSize);
  if (unknown.length === 0) return ids;
  throw badRequest(
    `token_id(s) [${shortList(unknown)}] in ${name} contain out-of-vocab token ids. ` +
      `Vocabulary size: ${vocabSize}`,
    name,
  );
}

/** When an answer that says the same again and again is ended; sizes of 0 switch that off. */
export function readRepetitionDetection(fields: Fields): RepetitionDetection | undefined {
  const name = "repetition_detection";
  const object = fields.object(name);
  if (object === undefined) return undefined;
  const maxPatternSize = object.integer("max_pattern_size") ?? 0;
  const minPatternSize = object.integer("min_pattern_size") ?? 0;
  const minCount = object.integer("min_count") ?? 0;
  if (minPatternSize < 0 || maxPatternSize < minPatternSize) {
    throw badRequest(
      "max_pattern_size, min_pattern_size must be >=0, with min_pattern_size <= " +
        "max_pattern_size. Set both to 0 to disable repetitive pattern detection.",
      name,
    );
  }
  if (maxPatternSize === 0) return undefined;
  if (minCount >= 2) return { maxPatternSize, minPatternSize, minCount };
  throw badRequest("min_count must be >= 2 to detect repetitive patterns.", name);
}

/** The only tokens that may be chosen. */
export function readAllowedTokenIds(fields: Fields, vocabSize: number): number[] | undefined {
  const ids = fields.integers("allowed_token_ids");
  if (ids?.length === 0) {
    throw badRequest("allowed_token_ids is not None and empty!", "allowed_token_ids");
  }
  if (ids?.some((id) => id < 0 || id >= vocabSize)) {
    throw badRequest("allowed_token_ids contains out-of-vocab token id!", "allowed_token_ids");
  }
  return ids;
}

/** When a beam search is over. */
export function readEarlyStopping(fields: Fields): EarlyStopping | undefined {
  return fields.raw("early_stopping") === "never" ? "never" : fields.boolean("early_stopping");
}

/** What the model shall say: our own field, a text or token ids. */
export function readForcedOutput(
  fields: Fields,
  vocabSize: number,
): string | readonly number[] | undefined {
  const value = fields.raw("forced_output");
  if (value !== undefined && fields.boolean("use_beam_search") === true) {
    throw badRequest("forced_output cannot be used with use_beam_search.", "forced_output");
  }
  if (value === undefined || typeof value === "string") return value;
  if (!Array.isArray(value)) {
    throw fields.shapeError("forced_output", value, "a string or token ids", "string_type");
  }
  return value.map((id, at) => readTokenId(fields, id, `forced_output.${at}`, vocabSize));
}

/** How many tokens of the prompt to keep; `room` is what the answer leaves of the context. */
export function readTruncation(fields: Fields, room: number): number | undefined {
  const count = fields.integer("truncate_prompt_tokens");
  if (count === undefined) return undefined;
  if (count < -1) {
    throw fields.shapeError("truncate_prompt_tokens", count, "at least -1", "greater_than_equal");
  }
  if (count <= room) return count;
  throw badRequest(
    `truncate_prompt_tokens=${count} cannot be greater than max_model_len - max_tokens = ` +
      `${room}. Please request a smaller truncation size.`,
    "truncate_prompt_tokens",
  );
}

function texts(fields: Fields, name: string): string[] {
  return (fields.list(name) ?? []).map((text, index) => {
    if (typeof text === "string") return text;
    throw fields.shapeError(`${name}.${index}`, text, "a string", "string_type");
  });
}

/** As Python prints a list of texts, each cut to a bearable length. */
function pythonList(items: readonly string[]): string {
  const quoted = items.map((item) => `'${item.length > 40 ? `${item.slice(0, 40)}…` : item}'`);
  return `[${shortList(quoted)}]`;
}

/** The items of a list that a client may have made very long. */
function shortList(items: readonly unknown[]): string {
  const more = items.length > SHOWN_COUNT_MAX ? `, … ${items.length - SHOWN_COUNT_MAX} more` : "";
  return items.slice(0, SHOWN_COUNT_MAX).join(", ") + more;
}
