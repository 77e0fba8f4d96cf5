/** What a request must be for the engine to take it, and how much it may write: checked before it is born. */

import { ContextLengthError, InvalidParameterError } from "../base/errors.ts";
import { KV_BLOCK_SIZE } from "../device/kernel_table.ts";
import { checkMinFitsMax } from "../sampling/param_checks.ts";
import type { EnginePoolingRequest } from "./pooling_request.ts";
import type { EngineRequest } from "./request.ts";
import type { Runner } from "./runner.ts";

/** Checks what all kinds of requests have. */
export function checkPrompt(
  { promptTokenIds, priority = 0, cacheSalt }: Pick<
    EngineRequest,
    "promptTokenIds" | "priority" | "cacheSalt"
  >,
  runner: Runner,
): void {
  checkCacheSalt(cacheSalt);
  if (!Number.isFinite(priority)) {
    throw new InvalidParameterError(
      "priority",
      priority,
      `Cannot use priority ${priority}: it must be a finite number`,
    );
  }
  if (promptTokenIds.length === 0) {
    throw new InvalidParameterError(
      "promptTokenIds",
      promptTokenIds,
      "Cannot run a prompt of no tokens: it must hold at least one",
    );
  }
  const { vocabSize } = runner;
  for (const [index, tokenId] of promptTokenIds.entries()) {
    if (Number.isSafeInteger(tokenId) && tokenId >= 0 && tokenId < vocabSize) continue;
    throw new InvalidParameterError(
      "promptTokenIds",
      tokenId,
      `Cannot use token id ${tokenId}, number ${index} of the prompt, as it is out of vocabulary: ids are integers from 0 to ${
        vocabSize - 1
      }`,
    );
  }
}

/** Longest salt, in UTF-16 code units: it is kept as long as a block of its requests is. */
const CACHE_SALT_MAX = 1024;

function checkCacheSalt(salt: unknown): void {
  if (salt === undefined) return;
  const isSalt = typeof salt === "string" && salt !== "" && salt.length <= CACHE_SALT_MAX;
  if (isSalt) return;
  const shown = typeof salt === "string" ? `of ${salt.length} characters` : String(salt);
  throw new InvalidParameterError(
    "cacheSalt",
    salt,
    `Cannot use cacheSalt ${shown}: it must be a string of 1 to ${CACHE_SALT_MAX} characters`,
  );
}

/** Checks the token types of a prompt for an encoder. */
export function checkTokenTypes(
  { promptTokenIds, tokenTypeIds }: EnginePoolingRequest,
  runner: Runner,
): void {
  if (tokenTypeIds === undefined) return;
  const { tokenTypeCount = 0 } = runner;
  const fail = (value: unknown, what: string) => {
    throw new InvalidParameterError("tokenTypeIds", value, `Cannot use tokenTypeIds: ${what}`);
  };
  if (tokenTypeCount === 0) fail(tokenTypeIds, "the model has no token types");
  if (tokenTypeIds.length !== promptTokenIds.length) {
    fail(
      tokenTypeIds,
      `there must be one for each of ${promptTokenIds.length} tokens, not ${tokenTypeIds.length}`,
    );
  }
  const isType = (id: number) => Number.isSafeInteger(id) && id >= 0 && id < tokenTypeCount;
  const wrong = tokenTypeIds.find((id) => !isType(id));
  if (wrong !== undefined) {
    fail(wrong, `${wrong} is not an integer from 0 to ${tokenTypeCount - 1}`);
  }
}

/** Checks that a prompt can ever fit. */
export function checkPromptLength(promptLength: number, runner: Runner): void {
  const { maxPromptLength, blockCount } = runner;
  const limit = Math.min(maxPromptLength, blockCount * KV_BLOCK_SIZE);
  if (promptLength <= limit) return;
  const holder = limit < maxPromptLength ? "the KV pool holds" : "the model takes";
  throw new ContextLengthError(
    promptLength,
    limit,
    `Cannot run a prompt of ${promptLength} tokens as ${holder} at most ${limit}`,
  );
}

/** Most tokens the request may generate; refused where that is less than it must. */
export function outputRoom({ promptTokenIds, params }: EngineRequest, runner: Runner): number {
  const promptLength = promptTokenIds.length;
  const { maxPromptLength, maxContextLength, blockCount } = runner;
  if (promptLength > maxPromptLength) checkPromptLength(promptLength, runner);
  const limit = Math.min(maxContextLength, blockCount * KV_BLOCK_SIZE);
  const holder = limit < maxContextLength ? "the KV pool" : "the context";
  const wanted = params.cutMaxTokens ? 1 : params.maxTokens ?? 1;
  if (promptLength + wanted > limit) {
    throw new ContextLengthError(
      promptLength + wanted,
      limit,
      `Cannot run a prompt of ${promptLength} tokens and generate ${
        wanted === 1 ? "one more" : `${wanted} more`
      } as ${holder} holds at most ${limit}`,
      wanted,
    );
  }
  const room = Math.min(params.maxTokens ?? Infinity, limit - promptLength);
  checkMinFitsMax(params.minTokens, room);
  return room;
}
