/** Token events → text deltas of one request's sequences: the way up, stages 14 and 15. */

import type { Channel } from "./base/channel.ts";
import type { Engine } from "./engine/engine.ts";
import type { TokenEvent } from "./engine/request.ts";
import type { RequestReport } from "./engine/request_metrics.ts";
import { promptInfo } from "./logprob_maps.ts";
import type { GenerationDelta, PromptInfo } from "./outputs.ts";
import type { EncodedPrompt } from "./prompts.ts";
import type { ResolvedSamplingParams } from "./sampling/resolved_params.ts";
import { Sequence } from "./sequence.ts";
import type { Tokenizer } from "./text/tokenizer.ts";

/** One request, ready for the engine. */
export interface Generation {
  readonly requestId: string;
  readonly prompt: EncodedPrompt;
  readonly params: ResolvedSamplingParams;
  /** Texts that end a sequence. Default none. */
  readonly stops?: readonly string[];
  /** Show the text of what ended a sequence. Default false. */
  readonly includeStop?: boolean;
  readonly priority: number;
  readonly cacheSalt?: string | undefined;
  readonly signal: AbortSignal | undefined;
  /** Told how it went, when it has ended in the engine. */
  readonly onEnd?: ((report: RequestReport) => void) | undefined;
}

/** The part of the engine that a generation uses. */
export type GenerationEngine = Pick<Engine, "submit" | "abort">;

/**
 * Queues a request, and yields its answer piece by piece: one delta a token, those of several
 * sequences as they come. Where the best of more sequences are wanted, all deltas come at the end.
 *
 * @throws What the engine refuses the request with, at once.
 */
export function generateDeltas(
  engine: GenerationEngine,
  tokenizer: Tokenizer,
  generation: Generation,
): AsyncGenerator<GenerationDelta, void, void> {
  const { requestId, prompt, params, priority, cacheSalt, signal, onEnd } = generation;
  signal?.throwIfAborted();
  const isRanked = params.beam === null && params.bestOf > params.n;
  const channel: Channel<TokenEvent> = engine.submit({
    id: requestId,
    promptTokenIds: prompt.tokenIds,
    params: isRanked ? { ...params, logprobs: params.logprobs ?? 0 } : params,
    priority,
    cacheSalt,
    onEnd,
  });
  const forget = watch(signal, (reason) => {
    if (channel.isClosed) return; // the id may be another request's by now
    channel.fail(reason); // before the engine closes it as a quiet end
    engine.abort(requestId);
  });
  const deltas = readDeltas(channel, tokenizer, generation, {
    stop(index) {
      // The engine may have ended the request, as it has with a beam search that tells anything.
      if (!channel.isClosed) engine.abort(requestId, index);
    },
    forget,
  });
  return isRanked ? bestSequences(deltas, params) : deltas;
}

/** Ends a generation when its signal fires; the returned function forgets the signal. */
function watch(signal: AbortSignal | undefined, stop: (reason: unknown) => void): () => void {
  if (signal === undefined) return () => {};
  const onAbort = () => stop(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  return () => signal.removeEventListener("abort", onAbort);
}

async function* readDeltas(
  channel: Channel<TokenEvent>,
  tokenizer: Tokenizer,
  { requestId, prompt, params, stops = [], includeStop = false }: Generation,
  on: { readonly stop: (index: number) => void; readonly forget: () => void },
): AsyncGenerator<GenerationDelta, void, void> {
  const options = { requestId, promptTokenIds: prompt.tokenIds, params, stops, includeStop };
  const sequences = Array.from(
    { length: params.beam === null ? params.bestOf : params.n },
    () => new Sequence(tokenizer, options),
  );
  try {
    for await (const event of channel) {
      const sequence = sequences[event.index];
      // What the engine chose before it heard that a stop string had ended the sequence.
      if (sequence === undefined || sequence.isFinished) continue;
      const delta = sequence.push(event);
      // By a stop string, then, of which the engine does not know.
      if (sequence.isFinished && event.finishReason === null) on.stop(event.index);
      yield event.prompt === undefined
        ? delta
        : { ...delta, prompt: await promptInfo(prompt, event.prompt, tokenizer) };
      // Whatever became of the request after its last token that counts is of no interest.
      if (sequences.every(({ isFinished }) => isFinished)) return;
    }
  } finally {
    on.forget();
  }
}

/** The `n` sequences of the largest log-probability, best first, when all have ended. */
async function* bestSequences(
  deltas: AsyncIterable<GenerationDelta>,
  { n, logprobs }: ResolvedSamplingParams,
): AsyncGenerator<GenerationDelta, void, void> {
  let prompt: PromptInfo | undefined;
  const sequences = new Map<number, { readonly deltas: GenerationDelta[]; logprob: number }>();
  for await (const { prompt: info, ...delta } of deltas) {
    prompt ??= info;
    const sequence = sequences.get(delta.index) ?? { deltas: [], logprob: 0 };
    sequences.set(delta.index, sequence);
    sequence.deltas.push(delta);
    sequence.logprob += logprobSum(delta);
  }
  const ranked = [...sequences].sort(([a, { logprob: left }], [b, { logprob: right }]) =>
    right - left || a - b
  );
  for (const [index, [, sequence]] of ranked.slice(0, n).entries()) {
    for (const delta of sequence.deltas) {
      yield {
        ...delta,
        index,
        logprobs: logprobs === null ? null : delta.logprobs,
        ...(prompt && { prompt }),
      };
      prompt = undefined; // only with the first
    }
  }
}

/** The sum of the chosen tokens' log-probabilities. */
function logprobSum({ tokenIds, logprobs }: GenerationDelta): number {
  return tokenIds.reduce((sum, id, i) => sum + (logprobs?.[i]?.get(id)?.logprob ?? 0), 0);
}
