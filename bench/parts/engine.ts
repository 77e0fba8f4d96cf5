/**
 * Milliseconds of the main thread a decode step, the device left out: scheduling, packing,
 * sampling, detokenising, events; and what each sampling parameter adds to that, on the main
 * thread and in the processing elements that summarise rows for it.
 */

import { Engine } from "../../lib/engine/engine.ts";
import { generateDeltas } from "../../lib/generation.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { SamplingParams, type SamplingParamsOptions } from "../../lib/sampling/params.ts";
import {
  type ResolvedSamplingParams,
  resolveSamplingParams,
  type TokenizedParams,
} from "../../lib/sampling/resolved_params.ts";
import { SamplingState } from "../../lib/sampling/state.ts";
import { summaryNeed } from "../../lib/sampling/summary.ts";
import type { Tokenizer } from "../../lib/text/tokenizer.ts";
import { median, rounded } from "../report/figures.ts";
import type { PartFindings, Table } from "../report/results.ts";
import type { PartOptions } from "./part.ts";
import { PreparedRunner } from "./prepared_runner.ts";

const BATCH_SIZE = 16;
const STEPS = 300;
const ROUNDS = 5;
/** Whole rows take so much longer that fewer steps tell as much. */
const WHOLE_ROW_STEPS = 40;
const WHOLE_ROW_ROUNDS = 3;
const SUMMARY_ROUNDS = 40;
/** So many that penalties have something to do. */
const PROMPT_LENGTH = 256;
const GOAL = "dearest sampling parameter over greedy, batch 16";

/** What a request asks for, bad words as tokens. */
interface Knob {
  readonly name: string;
  readonly options: SamplingParamsOptions;
  readonly tokenized?: TokenizedParams;
}

const GREEDY: Knob = { name: "greedy", options: { temperature: 0 } };
const HUNDRED_IDS = Array.from({ length: 100 }, (_, i) => 50 + i * 397);

/** One parameter each, with whatever it needs to have an effect. */
const KNOBS: readonly Knob[] = [
  { name: "temperature 1", options: {} },
  { name: "temperature 0.7", options: { temperature: 0.7 } },
  { name: "top-k 40", options: { topK: 40 } },
  { name: "top-k 200", options: { topK: 200 } },
  { name: "top-k 1000", options: { topK: 1000 } },
  { name: "top-p 0.5", options: { topP: 0.5 } },
  { name: "top-p 0.95", options: { topP: 0.95 } },
  { name: "min-p 0.05", options: { minP: 0.05 } },
  { name: "greedy, repetition penalty", options: { temperature: 0, repetitionPenalty: 1.1 } },
  { name: "repetition penalty", options: { repetitionPenalty: 1.1 } },
  {
    name: "frequency and presence penalty",
    options: { frequencyPenalty: 0.5, presencePenalty: 0.5 },
  },
  {
    name: "100 biases",
    options: { logitBias: new Map(HUNDRED_IDS.map((id) => [id, 2])) },
  },
  {
    name: "100 bad words",
    options: {},
    tokenized: { badTokenSequences: HUNDRED_IDS.map((id) => [id - 1, id]) },
  },
  { name: "100 allowed tokens", options: { allowedTokenIds: HUNDRED_IDS } },
  {
    name: "a logits processor",
    options: { logitsProcessors: [(_, logits) => void (logits[0] = -Infinity)] },
  },
  { name: "minTokens", options: { minTokens: STEPS, stopTokenIds: [2, 0] } },
  { name: "greedy, logprobs 5", options: { temperature: 0, logprobs: 5 } },
  { name: "logprobs 5", options: { logprobs: 5 } },
];

/** What they cost together; the goal is about each by itself. */
const COMBINATIONS: readonly Knob[] = [
  { name: "temperature 0.7, logprobs 20", options: { temperature: 0.7, logprobs: 20 } },
  {
    name: "temperature 0.7, top-k 50, top-p 0.9, repetition penalty",
    options: { temperature: 0.7, topK: 50, topP: 0.9, repetitionPenalty: 1.1 },
  },
  {
    name: "temperature 0.7, top-p 0.9, all penalties, logprobs 5",
    options: {
      temperature: 0.7,
      topP: 0.9,
      repetitionPenalty: 1.1,
      frequencyPenalty: 0.2,
      presencePenalty: 0.2,
      logprobs: 5,
    },
  },
];

/** What the first table shows, beside what the same costs without summaries. */
const WHOLE_STEPS: readonly Knob[] = [
  GREEDY,
  { name: "top-k 40", options: { topK: 40 } },
  { name: "top-k 40, logprobs 5", options: { topK: 40, logprobs: 5 } },
  { name: "temperature 1", options: {} },
];

function resolve({ options, tokenized = {} }: Knob, maxTokens: number): ResolvedSamplingParams {
  const params = new SamplingParams({ ...options, maxTokens, ignoreEos: true });
  return resolveSamplingParams(params, {}, tokenized);
}

/** Milliseconds a step of `batchSize` requests that decode together. */
async function stepMs(
  tokenizer: Tokenizer,
  runner: PreparedRunner,
  params: ResolvedSamplingParams,
): Promise<number> {
  const engine = new Engine(runner, {
    enablePrefixCaching: true,
    maxWaitingRequests: 1000,
    endTokenIds: [],
  });
  let start = 0;
  let startStep = 0;
  await Promise.all(Array.from({ length: runner.maxBatchSize }, async (_, i) => {
    const promptTokenIds = Array.from(
      { length: PROMPT_LENGTH },
      (_, token) => 100 + (i * 20 + token * 191) % (runner.vocabSize - 100),
    );
    const deltas = generateDeltas(engine, tokenizer, {
      requestId: `${i}`,
      prompt: { text: "", tokenIds: promptTokenIds },
      params,
      priority: 0,
      signal: undefined,
    });
    let seen = 0;
    for await (const _ of deltas) {
      // All are decoding by now.
      if (++seen === 10 && start === 0) {
        start = performance.now();
        startStep = runner.stepCount;
      }
    }
  }));
  const elapsed = performance.now() - start;
  await engine.close();
  return elapsed / (runner.stepCount - startStep);
}

/** Batch 16, with summaries of rows as the device makes them, and with whole rows. */
export async function measureEngine({ models, say }: PartOptions): Promise<PartFindings> {
  const tokenizer = await models.tokenizer();
  using checkpoint = await openCheckpoint(await models.path("q4_1"));
  const { vocabSize } = checkpoint.config;
  const tokens = { tokenizer, vocabSize, say };
  const steps = await measureSteps(tokens);
  const { table, dearest } = await measureKnobs(tokens);
  return {
    findings: [{ goal: GOAL, value: dearest.ms, note: dearest.name }],
    tables: [steps, table],
    charts: [],
    facts: {},
  };
}

interface Tokens {
  readonly tokenizer: Tokenizer;
  readonly vocabSize: number;
  readonly say: PartOptions["say"];
}

async function measureSteps({ tokenizer, vocabSize, say }: Tokens): Promise<Table> {
  const efforts = [
    { offersSummaries: true, steps: STEPS, rounds: ROUNDS },
    { offersSummaries: false, steps: WHOLE_ROW_STEPS, rounds: WHOLE_ROW_ROUNDS },
  ];
  const rows: (string | number)[][] = [];
  for (const knob of WHOLE_STEPS) {
    const cells: number[] = [];
    for (const { offersSummaries, steps, rounds } of efforts) {
      const runner = new PreparedRunner(vocabSize, BATCH_SIZE, offersSummaries);
      const times: number[] = [];
      for (let round = 0; round < rounds; round++) {
        times.push(await stepMs(tokenizer, runner, resolve(knob, steps)));
      }
      cells.push(rounded(median(times)));
    }
    say(`${knob.name}: ${cells[0]} ms a step with summaries, ${cells[1]} ms with whole rows`);
    rows.push([knob.name, ...cells]);
  }
  return {
    title: `Milliseconds a decode step of ${BATCH_SIZE} sequences`,
    text: "Scheduling, packing, sampling, detokenising and events, with a device that answers at " +
      "once. The device summarises rows: whole rows are what it costs without.",
    columns: ["sampling", "summaries", "whole rows"],
    rows,
  };
}

/** Each parameter takes turns with greedy sampling, so that both meet the same machine. */
async function measureKnobs(
  { tokenizer, vocabSize, say }: Tokens,
): Promise<{ table: Table; dearest: { name: string; ms: number } }> {
  const runner = new PreparedRunner(vocabSize, BATCH_SIZE, true);
  const greedy = resolve(GREEDY, STEPS);
  const needOf = (params: ResolvedSamplingParams) =>
    summaryNeed(new SamplingState(params, 0, [], []));
  const rows: (string | number)[][] = [];
  let dearest = { name: "", ms: -Infinity };
  for (const knob of [...KNOBS, ...COMBINATIONS]) {
    const params = resolve(knob, STEPS);
    const host: number[] = [];
    const device: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const base = await stepMs(tokenizer, runner, greedy);
      host.push(await stepMs(tokenizer, runner, params) - base);
      const baseSummary = runner.summaryMs(needOf(greedy), SUMMARY_ROUNDS);
      device.push(runner.summaryMs(needOf(params), SUMMARY_ROUNDS) - baseSummary);
    }
    const [hostMs, deviceMs] = [median(host), median(device)];
    const ms = rounded(hostMs + deviceMs);
    say(`${knob.name}: ${ms} ms a step over greedy`);
    rows.push([knob.name, rounded(hostMs), rounded(deviceMs), ms]);
    if (KNOBS.includes(knob) && ms > dearest.ms) dearest = { name: knob.name, ms };
  }
  const table = {
    title: `Time per step at batch ${BATCH_SIZE} over plain greedy, ms`,
    text: `A vocabulary of ${vocabSize}, logits spread like those of SmolLM2, prompts of ` +
      `${PROMPT_LENGTH} tokens, ${STEPS} steps. What the main thread does for a parameter, what ` +
      "one of two processing elements does to summarise rows for it, and both. Without " +
      '"greedy", the temperature is 1 where none is named.',
    columns: ["sampling", "main thread", "processing elements", "together"],
    rows,
  };
  return { table, dearest };
}
