/** Token events → text deltas, and deltas → whole outputs: the way up, stages 14 and 15. */

import type { Channel } from "./base/channel.ts";
import type { Engine, TokenEvent, TokenLogprob } from "./engine/engine.ts";
import type {
  CompletionOutput,
  GenerationDelta,
  Logprob,
  LogprobMap,
  PromptInfo,
  RequestOutput,
} from "./outputs.ts";
import type { EncodedPrompt } from "./prompts.ts";
import type { ResolvedSamplingParams } from "./sampling/resolved_params.ts";
import { Detokenizer } from "./text/detokenizer.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** One request, ready for the engine. */
export interface Generation {
  readonly requestId: string;
  readonly prompt: EncodedPrompt;
  readonly params: ResolvedSamplingParams;
  readonly priority: number;
  readonly signal: AbortSignal | undefined;
}

/** Tokens before a piece of a character that may hold its other pieces. */
const CONTEXT_TOKENS = 4;

/** A token's text; a piece that completes a character begun by the tokens before has it whole. */
function textAfter(previous: readonly number[], tokenId: number, tokenizer: Tokenizer): string {
  const alone = tokenizer.tokenText(tokenId);
  if (alone !== "") return alone;
  for (let count = 1; count <= Math.min(CONTEXT_TOKENS, previous.length); count++) {
    const before = previous.slice(-count);
    const text = tokenizer.decode([...before, tokenId], { skipSpecialTokens: false });
    if (text.includes("\uFFFD")) continue;
    const begun = tokenizer.decode(before, { skipSpecialTokens: false }).replace(/\uFFFD+$/, "");
    return text.slice(begun.length);
  }
  return "";
}

function logprobMap(
  entries: readonly TokenLogprob[],
  previous: readonly number[],
  tokenizer: Tokenizer,
): LogprobMap {
  const map = new Map<number, Logprob>();
  for (const { tokenId, logprob, rank } of entries) {
    const decodedToken = textAfter(previous, tokenId, tokenizer);
    map.set(tokenId, { logprob, rank, decodedToken });
  }
  return map;
}

function promptInfo(
  prompt: EncodedPrompt,
  event: NonNullable<TokenEvent["prompt"]>,
  tokenizer: Tokenizer,
): PromptInfo {
  return {
    text: prompt.text,
    tokenIds: prompt.tokenIds,
    logprobs: event.logprobs?.map((entries, i) =>
      entries &&
      logprobMap(entries, prompt.tokenIds.slice(Math.max(0, i - CONTEXT_TOKENS), i), tokenizer)
    ) ?? null,
    cachedTokens: event.cachedTokens,
  };
}

/** Ends a generation when its signal fires; the returned function forgets the signal. */
function watch(signal: AbortSignal | undefined, stop: (reason: unknown) => void): () => void {
  if (signal === undefined) return () => {};
  const onAbort = () => stop(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  return () => signal.removeEventListener("abort", onAbort);
}

/** Runs a request and yields its answer piece by piece, one delta a token. */
export async function* generateDeltas(
  engine: Engine,
  tokenizer: Tokenizer,
  generation: Generation,
): AsyncGenerator<GenerationDelta, void, void> {
  const { requestId, prompt, params, priority, signal } = generation;
  signal?.throwIfAborted();
  const detokenizer = new Detokenizer(tokenizer, {
    promptIds: prompt.tokenIds,
    skipSpecialTokens: params.skipSpecialTokens,
  });
  const channel: Channel<TokenEvent> = engine.submit({
    id: requestId,
    promptTokenIds: prompt.tokenIds,
    params,
    priority,
  });
  const forget = watch(signal, (reason) => {
    channel.fail(reason); // before the engine closes it as a quiet end
    engine.abort(requestId);
  });
  const recent = prompt.tokenIds.slice(-CONTEXT_TOKENS);
  try {
    for await (const event of channel) {
      // The token that stops an answer is counted, not shown.
      const shown = event.finishReason === "stop" ? [] : [event.tokenId];
      const text = detokenizer.push(shown);
      yield {
        requestId,
        index: 0,
        text: event.finishReason === null ? text : text + detokenizer.finish(),
        tokenIds: [event.tokenId],
        logprobs: event.logprobs && [logprobMap(event.logprobs, recent, tokenizer)],
        finishReason: event.finishReason,
        stopReason: event.stopReason,
        ...(event.prompt && { prompt: promptInfo(prompt, event.prompt, tokenizer) }),
      };
      recent.push(event.tokenId);
      if (recent.length > CONTEXT_TOKENS) recent.shift();
    }
  } finally {
    forget();
  }
}

/** Folds a stream into the whole answer. */
export async function foldDeltas(
  deltas: AsyncIterable<GenerationDelta>,
): Promise<RequestOutput> {
  let requestId = "";
  let prompt: PromptInfo = { text: "", tokenIds: [], logprobs: null, cachedTokens: 0 };
  const texts: string[] = [];
  const tokenIds: number[] = [];
  const logprobs: LogprobMap[] = [];
  let hasLogprobs = false;
  let cumulativeLogprob = 0;
  let finishReason: CompletionOutput["finishReason"] = null;
  let stopReason: CompletionOutput["stopReason"] = null;
  for await (const delta of deltas) {
    requestId = delta.requestId;
    if (delta.prompt !== undefined) prompt = delta.prompt;
    texts.push(delta.text);
    tokenIds.push(...delta.tokenIds);
    for (const [i, map] of (delta.logprobs ?? []).entries()) {
      hasLogprobs = true;
      logprobs.push(map);
      cumulativeLogprob += map.get(delta.tokenIds[i] as number)?.logprob ?? 0;
    }
    ({ finishReason, stopReason } = delta);
  }
  return {
    requestId,
    prompt: prompt.text,
    promptTokenIds: prompt.tokenIds,
    promptLogprobs: prompt.logprobs,
    outputs: [{
      index: 0,
      text: texts.join(""),
      tokenIds,
      logprobs: hasLogprobs ? logprobs : null,
      cumulativeLogprob: hasLogprobs ? cumulativeLogprob : null,
      finishReason,
      stopReason,
    }],
    finished: finishReason !== null,
    cachedTokens: prompt.cachedTokens,
  };
}
