/**
 * Text deltas → the parts of an assistant's message.
 *
 * Today every text is content. Parsers for reasoning and tool calls come in here: they turn one
 * delta's text into several parts, or hold it back, and whoever reads parts need not change.
 */

import type { GenerationDelta } from "./outputs.ts";

/** A piece of an assistant's message. */
export type AssistantPart = { readonly kind: "content"; readonly text: string };

/** One delta of a generation, and what its text adds to the message. */
export interface AssistantDelta {
  readonly delta: GenerationDelta;
  readonly parts: readonly AssistantPart[];
}

/** A whole assistant's message: the fold of its parts. */
export interface AssistantMessage {
  readonly content: string;
}

/** Turns each delta's text into parts, one result a delta. Those of several sequences interleave. */
export async function* assistantDeltas(
  deltas: AsyncIterable<GenerationDelta>,
): AsyncGenerator<AssistantDelta, void, void> {
  for await (const delta of deltas) {
    yield { delta, parts: [{ kind: "content", text: delta.text }] };
  }
}

/** Puts the parts of a message together. */
export function foldParts(parts: Iterable<AssistantPart>): AssistantMessage {
  let content = "";
  for (const part of parts) content += part.text;
  return { content };
}
