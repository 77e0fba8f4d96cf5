/** Our engine under test: the shipped SDK with its own sampler, behind the bench's questions. */

import { VERSION } from "../../lib/openai/handler.ts";
import { LLM, SamplingParams } from "../../mod.ts";
import { answerQuestions, type Answers, type Question } from "./protocol.ts";

/** What is sampled by where speed is measured: something that people really ask for. */
const SAMPLING = { temperature: 0.8, topK: 40, seed: 1, ignoreEos: true } as const;
/** Room for what prompts of one step take. */
const STEP_TOKENS = 512;

let llm: LLM | undefined;

function loaded(): LLM {
  if (llm === undefined) throw new Error("no model is loaded");
  return llm;
}

async function answer(question: Question): Promise<Answers[keyof Answers]> {
  switch (question.ask) {
    case "load":
      return await load(question);
    case "prefill":
      return await prefill(loaded(), question.prompt);
    case "decode":
      return await decode(loaded(), question.prompts, question.tokenCount);
    case "predict":
      return await predict(loaded(), question.ids, question.promptLength);
    case "likelihood":
      return await likelihood(loaded(), question.ids);
    case "unload":
      await llm?.[Symbol.asyncDispose]();
      llm = undefined;
      return {};
    default:
      return question satisfies never;
  }
}

async function load(
  { path, kvType, options = {} }: Question & { ask: "load" },
): Promise<Answers["load"]> {
  await llm?.[Symbol.asyncDispose]();
  llm = undefined;
  llm = await LLM.load(path, {
    kvCacheDtype: kvType === "bf16" ? "bfloat16" : "float32",
    ...options,
  });
  const { weightBytes, parameterCount, activeParameterCount, threads } = llm.info;
  return {
    engine: `@rngd/llm ${VERSION}`,
    weightBytes,
    activeShare: activeParameterCount / parameterCount,
    threads: [Math.max(1, threads)],
  };
}

async function prefill(llm: LLM, prompt: readonly number[]): Promise<Answers["prefill"]> {
  const start = performance.now();
  await llm.generate(
    { promptTokenIds: [...prompt] },
    new SamplingParams({ ...SAMPLING, maxTokens: 1 }),
  );
  return { ms: performance.now() - start };
}

/**
 * Counts the tokens between the moment at which every sequence has its second token and the moment
 * at which the first of them ends: there, and only there, all decode together.
 */
async function decode(
  llm: LLM,
  prompts: readonly (readonly number[])[],
  tokenCount: number,
): Promise<Answers["decode"]> {
  // Prompts that do not fit into one step begin one after another: the tokens that the first ones
  // write meanwhile come on top.
  const stagger = Math.ceil(prompts.length * (prompts[0]?.length ?? 0) / STEP_TOKENS);
  const params = new SamplingParams({
    ...SAMPLING,
    maxTokens: tokenCount + 2 + stagger,
  });
  const times = await Promise.all(prompts.map(async (prompt) => {
    const moments: number[] = [];
    for await (const delta of llm.stream({ promptTokenIds: [...prompt] }, params)) {
      const now = performance.now();
      for (let i = 0; i < delta.tokenIds.length; i++) moments.push(now);
    }
    return moments;
  }));
  const start = Math.max(...times.map((moments) => moments[1] as number));
  const end = Math.min(...times.map((moments) => moments.at(-1) as number));
  const tokens = times.flat().filter((moment) => moment > start && moment <= end).length;
  return { ms: end - start, tokens };
}

async function predict(
  llm: LLM,
  ids: readonly number[],
  promptLength: number,
): Promise<Answers["predict"]> {
  const params = new SamplingParams({ temperature: 0, maxTokens: 1, promptLogprobs: 1 });
  const output = await llm.generate({ promptTokenIds: [...ids] }, params);
  return {
    ids: ids.slice(promptLength).map((_, i) => {
      const map = output.promptLogprobs?.[promptLength + i] ?? new Map();
      for (const [id, { rank }] of map) if (rank === 1) return id;
      throw new Error(`place ${promptLength + i} has no likeliest token`);
    }),
  };
}

async function likelihood(llm: LLM, ids: readonly number[]): Promise<Answers["likelihood"]> {
  const params = new SamplingParams({ temperature: 0, maxTokens: 1, promptLogprobs: 0 });
  const output = await llm.generate({ promptTokenIds: [...ids] }, params);
  const logprobs = ids.slice(1).map((id, i) => {
    const entry = output.promptLogprobs?.[i + 1]?.get(id);
    if (entry === undefined) throw new Error(`token ${i + 1} of the text has no probability`);
    return entry.logprob;
  });
  return { nll: -logprobs.reduce((sum, value) => sum + value, 0) / logprobs.length };
}

await answerQuestions(answer);
await llm?.[Symbol.asyncDispose]();
