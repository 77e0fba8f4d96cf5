/** `embed`, `encode` and `classify`: each prompt by itself, from its text to what the heads make of it. */

import { InvalidParameterError } from "./base/errors.ts";
import { checkFieldNames } from "./base/field_names.ts";
import type {
  ClassificationRequestOutput,
  EmbeddingRequestOutput,
  PoolingRequestOutput,
} from "./outputs.ts";
import { checkPoolingParams, PoolingParams, type PoolingTask } from "./pooling/params.ts";
import { planFor, type PoolingPlan, type Vectors } from "./pooling_plan.ts";
import {
  encodePoolingPrompt,
  encodePoolingPromptInBackground,
  paramsOfEach,
  type PoolingContext,
  type PoolingOptions,
  runPooling,
} from "./pooling_requests.ts";
import type { Prompt } from "./prompts.ts";
import {
  CALL_OPTIONS,
  type RequestItem,
  type RequestWork,
  runAlone,
  runTogether,
} from "./run_together.ts";

/** Options of `embed`. */
export interface EmbedOptions extends PoolingOptions {
  /**
   * A prompt of the model's own, by its name in config_sentence_transformers.json, that is put
   * before every text: "query". Default: none, also where that file names a default.
   */
  readonly promptName?: string;
}

/** Options of `encode`. */
export interface EncodeOptions extends EmbedOptions {
  /** What to make. Default: the params' task, else the model's. */
  readonly task?: PoolingTask;
}

/** All options: a name that is missing here would be a type error. */
const OPTIONS: Readonly<Record<keyof EncodeOptions, true>> = {
  ...CALL_OPTIONS,
  addSpecialTokens: true,
  truncationSide: true,
  promptName: true,
  task: true,
};

type Params = PoolingParams | readonly PoolingParams[] | undefined;

/** Embeds one prompt, or each of several. */
export async function embed(
  context: PoolingContext,
  input: Prompt | readonly Prompt[],
  params: Params,
  options: EmbedOptions,
): Promise<EmbeddingRequestOutput | EmbeddingRequestOutput[]> {
  const toOutput = ({ outputs, ...rest }: PoolingRequestOutput): EmbeddingRequestOutput => {
    const embedding = outputs.data as Float32Array;
    return { ...rest, outputs: { embedding, hiddenSize: embedding.length } };
  };
  checkEach(params, "embed");
  const outputs = await encode(context, input, params, { ...options, task: "embed" });
  return Array.isArray(outputs) ? outputs.map(toOutput) : toOutput(outputs as PoolingRequestOutput);
}

/** Classifies one prompt, or each of several. */
export async function classify(
  context: PoolingContext,
  input: Prompt | readonly Prompt[],
  params: Params,
  options: PoolingOptions,
): Promise<ClassificationRequestOutput | ClassificationRequestOutput[]> {
  const labels = context.pooling.classifier?.labels ?? [];
  const toOutput = ({ outputs, ...rest }: PoolingRequestOutput): ClassificationRequestOutput => {
    const probs = outputs.data as Float32Array;
    const best = probs.indexOf(Math.max(...probs));
    const label = labels[best] ?? null;
    return { ...rest, outputs: { probs, numClasses: probs.length, label } };
  };
  checkEach(params, "classify");
  const outputs = await encode(context, input, params, { ...options, task: "classify" });
  return Array.isArray(outputs) ? outputs.map(toOutput) : toOutput(outputs as PoolingRequestOutput);
}

function checkEach(params: Params, task: PoolingTask): void {
  for (const one of [params ?? []].flat()) checkPoolingParams(one, task);
}

/** Pools one prompt, or each of several, as the task says. */
export async function encode(
  context: PoolingContext,
  input: Prompt | readonly Prompt[],
  params: Params,
  options: EncodeOptions,
): Promise<PoolingRequestOutput | PoolingRequestOutput[]> {
  checkFieldNames(options, Object.keys(OPTIONS), "the option");
  const { task, promptName } = options;
  const isList = Array.isArray(input);
  const prompts = isList ? input as readonly Prompt[] : [input as Prompt];
  if (!isList && Array.isArray(params)) {
    throw new TypeError("One prompt takes one PoolingParams, not an array");
  }
  const each = paramsOfEach(params, prompts.length, new PoolingParams());
  const plans = each.map((one) => planFor(context, task ?? one.task, one));
  const named = promptName === undefined ? "" : namedPrompt(context, promptName);
  const work: RequestWork<readonly number[], PoolingRequestOutput> = {
    prepare: (index, { signal }) =>
      encodePoolingPromptInBackground(
        withPrompt(named, prompts[index] as Prompt),
        context,
        each[index] as PoolingParams,
        { ...options, signal },
      ),
    // Not a promise where the engine refuses: `async` makes one of it.
    run: async (promptTokenIds, item, index) =>
      await pool(context, promptTokenIds, plans[index] as PoolingPlan<Vectors>, item),
  };
  return isList
    ? await runTogether(prompts.length, options, context.maxInFlight, work)
    : await runAlone(options, work);
}

/**
 * Pools one prompt, which is queued before this returns.
 *
 * @throws What is wrong with the prompt or the parameters, or that the queue is full: at once.
 */
export function submitPooling(
  context: PoolingContext,
  prompt: Prompt,
  params: PoolingParams,
  options: PoolingOptions,
): Promise<PoolingRequestOutput> {
  const { requestId = crypto.randomUUID(), priority = 0 } = options;
  const { cacheSalt, trace } = options;
  const plan = planFor(context, params.task, params);
  const promptTokenIds = encodePoolingPrompt(prompt, context, params, options);
  const signal = options.signal ?? new AbortController().signal;
  return pool(context, promptTokenIds, plan, { requestId, priority, signal, cacheSalt, trace });
}

/** Queues token ids at once; what comes of them. */
function pool(
  context: PoolingContext,
  promptTokenIds: readonly number[],
  { rows, finish }: PoolingPlan<Vectors>,
  item: RequestItem,
): Promise<PoolingRequestOutput> {
  const { requestId } = item;
  const pooled = runPooling(context, { promptTokenIds, rows }, item);
  return pooled.then(({ rows, cachedTokens }) => ({
    requestId,
    outputs: { data: finish(rows) },
    promptTokenIds,
    finished: true,
    cachedTokens,
  }));
}

function withPrompt(named: string, prompt: Prompt): Prompt {
  if (named === "") return prompt;
  if (typeof prompt === "string") return named + prompt;
  const isText = typeof prompt === "object" && prompt !== null && "prompt" in prompt;
  return isText ? { prompt: named + prompt.prompt } : prompt;
}

function namedPrompt({ id, pooling }: PoolingContext, name: string): string {
  const text = pooling.prompts.get(name);
  if (text !== undefined) return text;
  const names = [...pooling.prompts.keys()].map((known) => `"${known}"`).join(", ");
  throw new InvalidParameterError(
    "promptName",
    name,
    `Cannot use promptName "${name}": the prompts of "${id}" are ${names || "none"}`,
  );
}
