/** Answers over HTTP, whole or streamed → one form that can be compared to the last bit. */

/** One choice: everything that may not depend on who else is served. */
interface Choice {
  text: string;
  readonly tokenIds: number[];
  /** Each token's log-probabilities as they were written. */
  readonly logprobs: string[];
  finishReason: string | null;
  stopReason: number | string | null;
}

/** The parts of a choice in a body or a chunk, of both routes. */
interface WireChoice {
  readonly index: number;
  readonly text?: string;
  readonly message?: { readonly content: string | null };
  readonly delta?: { readonly content?: string };
  readonly logprobs?: ChatLogprobs | CompletionLogprobs | null;
  readonly token_ids?: readonly number[] | null;
  readonly finish_reason: string | null;
  readonly stop_reason?: number | string | null;
}

interface ChatLogprobs {
  readonly content: readonly unknown[];
}

interface CompletionLogprobs {
  readonly text_offset: readonly number[];
  readonly token_logprobs: readonly unknown[];
  readonly tokens: readonly unknown[];
  readonly top_logprobs: readonly unknown[];
}

interface WireAnswer {
  readonly choices: readonly WireChoice[];
  readonly usage?: { readonly prompt_tokens: number; readonly completion_tokens: number } | null;
  readonly error?: unknown;
}

/** The form of a whole answer's body. */
export function readWhole(body: string): string {
  return form([JSON.parse(body) as WireAnswer]);
}

/** The form of an event stream; throws where it does not end as a stream must. */
export function readStream(stream: string): string {
  const events = stream.split("\n\n");
  if (events.pop() !== "" || events.pop() !== "data: [DONE]") {
    throw new Error(`The stream ends with ${JSON.stringify(stream.slice(-120))}`);
  }
  return form(events.map((event) => {
    if (!event.startsWith("data: ")) throw new Error(`Not an event: ${JSON.stringify(event)}`);
    return JSON.parse(event.slice("data: ".length)) as WireAnswer;
  }));
}

function form(pieces: readonly WireAnswer[]): string {
  const choices: Choice[] = [];
  let counts: readonly number[] = [];
  for (const { choices: grown, usage, error } of pieces) {
    if (error !== undefined) throw new Error(`The stream failed: ${JSON.stringify(error)}`);
    for (const piece of grown) {
      const choice = choices[piece.index] ??= {
        text: "",
        tokenIds: [],
        logprobs: [],
        finishReason: null,
        stopReason: null,
      };
      choice.text += piece.text ?? piece.message?.content ?? piece.delta?.content ?? "";
      choice.tokenIds.push(...piece.token_ids ?? []);
      choice.logprobs.push(...listLogprobs(piece.logprobs));
      choice.finishReason = piece.finish_reason ?? choice.finishReason;
      choice.stopReason = piece.stop_reason ?? choice.stopReason;
    }
    if (usage) counts = [usage.prompt_tokens, usage.completion_tokens];
  }
  return JSON.stringify({ choices, counts });
}

function listLogprobs(logprobs: WireChoice["logprobs"]): string[] {
  if (!logprobs) return [];
  if ("content" in logprobs) return logprobs.content.map((entry) => JSON.stringify(entry));
  return logprobs.tokens.map((token, at) =>
    JSON.stringify([
      ...[token, logprobs.token_logprobs[at], logprobs.top_logprobs[at], logprobs.text_offset[at]],
    ])
  );
}
