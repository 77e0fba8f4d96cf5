/** `generate` and `chat`: one prompt or conversation, or several in one batch, to their whole answers. */

import { foldDeltas } from "./fold.ts";
import type { RequestOutput } from "./outputs.ts";
import type { ChatMessage, ChatOptions, Prompt, RequestOptions } from "./prompts.ts";
import { type RequestItem, runTogether } from "./run_together.ts";
import { SamplingParams } from "./sampling/params.ts";
import { checkedParams, type GenerationContext, prepare, start, stream } from "./streaming.ts";

type Input = Prompt | readonly ChatMessage[];
type Params = SamplingParams | readonly SamplingParams[] | undefined;

/** Continues one prompt, or each of several. */
export function generate(
  context: GenerationContext,
  input: Prompt | readonly Prompt[],
  params: Params,
  options: RequestOptions,
): Promise<RequestOutput | RequestOutput[]> {
  return Array.isArray(input)
    ? all(context, input as readonly Prompt[], params, options)
    : one(context, input as Prompt, single(params), options);
}

/** Answers one conversation, or each of several. */
export function chat(
  context: GenerationContext,
  input: readonly ChatMessage[] | readonly (readonly ChatMessage[])[],
  params: Params,
  options: ChatOptions,
): Promise<RequestOutput | RequestOutput[]> {
  if (!Array.isArray(input)) {
    throw new TypeError("chat takes a list of messages; a text goes to generate or stream");
  }
  return input.length > 0 && input.every((item) => Array.isArray(item))
    ? all(context, input as readonly (readonly ChatMessage[])[], params, options)
    : one(context, input as readonly ChatMessage[], single(params), options);
}

function one(
  context: GenerationContext,
  input: Input,
  params: SamplingParams,
  options: ChatOptions,
): Promise<RequestOutput> {
  return foldDeltas(stream(context, input, params, options), params.n ?? 1);
}

/** Runs all inputs together. The first failure ends the others. */
async function all(
  context: GenerationContext,
  inputs: readonly Input[],
  params: Params,
  { onQueued, ...options }: ChatOptions,
): Promise<RequestOutput[]> {
  const each = paramsOfEach(params, inputs.length);
  const optionsOf = ({ requestId, signal, trace }: RequestItem): ChatOptions => ({
    ...options,
    requestId,
    signal,
    ...(trace && { trace }),
    ...(onQueued && { onQueued }),
  });
  return await runTogether(inputs.length, options, context.maxInFlight, {
    prepare: (index, item) =>
      prepare(context, inputs[index] as Input, each[index] as SamplingParams, optionsOf(item)),
    run: (prepared, item) =>
      foldDeltas(start(context, prepared, optionsOf(item)), prepared.params.n ?? 1),
  });
}

function single(params: Params): SamplingParams {
  return params === undefined ? new SamplingParams() : checkedParams(params);
}

/** One for all, or one each. */
function paramsOfEach(params: Params, count: number): SamplingParams[] {
  if (!Array.isArray(params)) return Array(count).fill(single(params));
  if (params.length !== count) {
    throw new TypeError(
      `${count} prompts take one SamplingParams or ${count}, not ${params.length}`,
    );
  }
  return [...params];
}
