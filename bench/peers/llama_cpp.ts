/**
 * llama.cpp under test: prompt and decode calls of its C API, behind the bench's questions.
 *
 * Nothing is sampled: the tokens of a decode step are given, so that only the library's own work
 * is timed. What the library computes is held against ours by "predict".
 */

import { answerQuestions, type Answers, type Question } from "../contestants/protocol.ts";
import {
  Batch,
  type KvType,
  LlamaContext,
  LlamaLibrary,
  type LlamaModel,
} from "./llama_cpp_api.ts";

/** As llama.cpp's own programs have it: what is longer goes in several steps. */
const MICRO_BATCH = 512;
/** Steps before the clock starts. */
const WARM_UP_STEPS = 2;

const library = new LlamaLibrary();
let model: LlamaModel | undefined;
let kvType: KvType = "bf16";

function loaded(): LlamaModel {
  if (model === undefined) throw new Error("no model is loaded");
  return model;
}

function answer(question: Question): Answers[keyof Answers] {
  switch (question.ask) {
    case "load":
      model?.[Symbol.dispose]();
      model = library.loadModel(question.path);
      kvType = question.kvType;
      return {
        engine: `llama.cpp ${library.version}`,
        weightBytes: model.sizeBytes,
        threads: [1, 2],
        system: library.systemInfo(),
      };
    case "prefill":
      return prefill(question.prompt, question.threads);
    case "decode":
      return decode(question.prompts, question.tokenCount, question.threads);
    case "predict":
      return predict(question.ids, question.promptLength);
    case "likelihood":
      return likelihood(question.ids);
    case "unload":
      model?.[Symbol.dispose]();
      model = undefined;
      return {};
    default:
      return question satisfies never;
  }
}

/** A prompt, the last token of which asks for logits. */
function promptBatch(prompt: readonly number[], sequence: number, from = 0): Batch {
  return new Batch(prompt.map((token, i) => ({
    token,
    position: from + i,
    sequence,
    wantsLogits: i === prompt.length - 1,
  })));
}

function prefill(prompt: readonly number[], threads: number): Answers["prefill"] {
  using context = new LlamaContext(loaded(), {
    contextSize: prompt.length,
    sequences: 1,
    threads,
    kvType,
  });
  // The first step of a context builds its graph and touches its buffers.
  context.decode(promptBatch(prompt.slice(0, MICRO_BATCH).toReversed(), 0));
  context.clear();
  const start = performance.now();
  for (let from = 0; from < prompt.length; from += MICRO_BATCH) {
    context.decode(promptBatch(prompt.slice(from, from + MICRO_BATCH), 0, from));
  }
  return { ms: performance.now() - start };
}

function decode(
  prompts: readonly (readonly number[])[],
  tokenCount: number,
  threads: number,
): Answers["decode"] {
  const promptLength = prompts[0]?.length ?? 0;
  using context = new LlamaContext(loaded(), {
    // Every sequence gets an equal share, which the library rounds to multiples of 256.
    contextSize: prompts.length * (promptLength + WARM_UP_STEPS + tokenCount),
    sequences: prompts.length,
    threads,
    kvType,
  });
  prompts.forEach((prompt, sequence) => {
    for (let from = 0; from < prompt.length; from += MICRO_BATCH) {
      context.decode(promptBatch(prompt.slice(from, from + MICRO_BATCH), sequence, from));
    }
  });
  const steps = Array.from(
    { length: WARM_UP_STEPS + tokenCount },
    (_, step) =>
      new Batch(prompts.map((prompt, sequence) => ({
        token: prompt[step % promptLength] as number,
        position: promptLength + step,
        sequence,
        wantsLogits: true,
      }))),
  );
  for (const step of steps.slice(0, WARM_UP_STEPS)) context.decode(step);
  const start = performance.now();
  for (const step of steps.slice(WARM_UP_STEPS)) context.decode(step);
  return { ms: performance.now() - start, tokens: prompts.length * tokenCount };
}

/** Runs a whole text and hands each token's context and index to `visit`. */
function visit(
  ids: readonly number[],
  use: (context: LlamaContext, i: number, at: number) => void,
) {
  using context = new LlamaContext(loaded(), {
    contextSize: ids.length,
    sequences: 1,
    threads: 2,
    kvType,
  });
  for (let from = 0; from < ids.length; from += MICRO_BATCH) {
    const part = ids.slice(from, from + MICRO_BATCH);
    context.decode(
      new Batch(part.map((token, i) => ({
        token,
        position: from + i,
        sequence: 0,
        wantsLogits: true,
      }))),
    );
    part.forEach((_, i) => use(context, i, from + i));
  }
}

function predict(ids: readonly number[], promptLength: number): Answers["predict"] {
  const predicted: number[] = [];
  visit(ids, (context, i, at) => {
    if (at + 1 >= promptLength && at + 1 < ids.length) predicted.push(context.argmax(i));
  });
  return { ids: predicted };
}

function likelihood(ids: readonly number[]): Answers["likelihood"] {
  let sum = 0;
  visit(ids, (context, i, at) => {
    const next = ids[at + 1];
    if (next !== undefined) sum -= context.logprob(i, next);
  });
  return { nll: sum / (ids.length - 1) };
}

await answerQuestions(answer);
