/**
 * `deno task bench [MODEL]`: decode at batch 1 and 8, prefill at 512 tokens, and the answer time
 * of `/health` during a long generation, beside the memory read speed of the same run.
 *
 * Machines are noisy: the read speed is measured before and after every figure, figures are
 * medians over rounds, and what counts is the ratio.
 */

import { handler } from "../lib/openai/handler.ts";
import { LLM, SamplingParams } from "../mod.ts";
import { defaultCacheDir, fetchSmolLM2 } from "../tools/models/fetch.ts";
import { ReadSpeed } from "./read_speed.ts";

const ROUNDS = 5;
const DECODE_TOKENS = 48;

const median = (values: readonly number[]) =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] as number;

/** Ids that make no sense, so that no prefix is shared by chance. */
function madeUpPrompt(length: number, seed: number): { promptTokenIds: number[] } {
  return {
    promptTokenIds: Array.from({ length }, (_, i) => 100 + ((i * 7919 + seed * 104729) % 20000)),
  };
}

/** Tokens a second of `count` sequences that decode together, prefill left out. */
async function decodeSpeed(llm: LLM, count: number, seed: number): Promise<number> {
  const params = new SamplingParams({ temperature: 0, maxTokens: DECODE_TOKENS, ignoreEos: true });
  const prompts = Array.from({ length: count }, (_, i) => madeUpPrompt(16, seed * 100 + i));
  let first = 0;
  let tokens = 0;
  await Promise.all(prompts.map(async (prompt) => {
    let seen = 0;
    for await (const _ of llm.stream(prompt, params)) {
      if (seen++ === 0) first = Math.max(first, performance.now());
      else tokens++;
    }
  }));
  return tokens / ((performance.now() - first) / 1000);
}

/** Prompt tokens a second. */
async function prefillSpeed(llm: LLM, seed: number): Promise<number> {
  const start = performance.now();
  await llm.generate(madeUpPrompt(512, seed), new SamplingParams({ temperature: 0, maxTokens: 1 }));
  return 512 / ((performance.now() - start) / 1000);
}

/** Milliseconds that `/health` took, over HTTP, while one long answer was written. */
async function healthTimes(llm: LLM, tokens: number): Promise<number[]> {
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, handler(llm));
  const url = `http://127.0.0.1:${server.addr.port}/health`;
  const times: number[] = [];
  let isRunning = true;
  const params = new SamplingParams({ temperature: 0, maxTokens: tokens, ignoreEos: true });
  const generation = llm.generate(madeUpPrompt(16, 1), params).finally(() => isRunning = false);
  while (isRunning) {
    const start = performance.now();
    await (await fetch(url)).text();
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await generation;
  await server.shutdown();
  return times.sort((a, b) => a - b);
}

const path = Deno.args[0] ?? await fetchSmolLM2({ cacheDir: defaultCacheDir() });
await using llm = await LLM.load(path);
const { threads, weightBytes, parameterCount } = llm.info;
console.log(
  `${parameterCount} parameters, ${
    (weightBytes / 1e6).toFixed(1)
  } MB of weights, ${threads} threads`,
);

using reader = await ReadSpeed.start(threads);
const decode1: number[] = [];
const decode8: number[] = [];
const prefill: number[] = [];
const reads: number[] = [];
const shares: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const before = await reader.measure();
  const speed = await decodeSpeed(llm, 1, round);
  const read = Math.max(before, await reader.measure());
  decode1.push(speed);
  reads.push(read);
  shares.push((speed * weightBytes) / 1e9 / read);
  decode8.push(await decodeSpeed(llm, 8, round + 50));
  prefill.push(await prefillSpeed(llm, round + 1000));
}
console.log(`memory read                ${median(reads).toFixed(1)} GB/s`);
console.log(
  `decode, batch 1            ${median(decode1).toFixed(1)} tokens/s = ${
    ((median(decode1) * weightBytes) / 1e9).toFixed(1)
  } GB/s of weights = ${median(shares).toFixed(2)} of the read speed`,
);
console.log(`decode, batch 8            ${median(decode8).toFixed(1)} tokens/s`);
console.log(`prefill, 512 tokens        ${median(prefill).toFixed(1)} tokens/s`);

const times = await healthTimes(llm, 2000);
const at = (share: number) => (times[Math.floor((times.length - 1) * share)] as number).toFixed(1);
console.log(
  `/health during 2,000 tokens  p50 ${at(0.5)} ms, p99 ${at(0.99)} ms, worst ${
    at(1)
  } ms (${times.length} requests)`,
);
