/** The real model against the values of the reference implementation. */

import { assert, assertEquals } from "@std/assert";
import {
  LLM,
  type LLMOptions,
  type LogprobMap,
  type RequestOutput,
  SamplingParams,
} from "../mod.ts";
import { modelTest } from "./helpers/smollm2.ts";

/** The parts of golden.json that are read here. */
interface Golden {
  readonly greedy: readonly {
    readonly prompt?: string;
    readonly messages?: { role: string; content: string }[];
    readonly max_tokens: number;
    readonly prompt_ids: number[];
    readonly finish: string;
    readonly ids: number[];
    readonly text: string;
    readonly steps: readonly {
      readonly id: number;
      readonly logprob: number;
      readonly margin: number;
      readonly top5: readonly (readonly [number, number])[];
    }[];
  }[];
  readonly prompt_logprobs: readonly {
    readonly text: string;
    readonly ids: number[];
    readonly logprobs: (number | null)[];
    readonly ranks: (number | null)[];
  }[];
  readonly perplexity: { tokens: number; nll_mean: number; first_512_nll_mean: number };
}

const url = (name: string) => new URL(`./golden/smollm2/${name}`, import.meta.url);
const readGolden = async (): Promise<Golden> =>
  JSON.parse(await Deno.readTextFile(url("golden.json")));

/** Float32 arithmetic and float32 KV meet the reference far closer than its stated 2e-3. */
const LOGPROB_TOLERANCE = 1e-4;

function logprobOf(map: LogprobMap | null | undefined, id: number): number {
  const entry = map?.get(id);
  assert(entry !== undefined, `no log-probability of token ${id}`);
  return entry.logprob;
}

/** Negative log-likelihoods of a prompt's tokens, from the second on. */
function nlls(output: RequestOutput): number[] {
  return output.promptTokenIds.slice(1).map((id, i) =>
    -logprobOf(output.promptLogprobs?.[i + 1], id)
  );
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

async function perplexityNlls(llm: LLM): Promise<number[]> {
  const text = await Deno.readTextFile(url("text.txt"));
  const params = new SamplingParams({ temperature: 0, maxTokens: 1, promptLogprobs: 0 });
  return nlls(await llm.generate(text, params, { addSpecialTokens: false }));
}

modelTest(
  "SmolLM2 with float32 KV gives the reference's tokens, texts and log-probabilities",
  async (path) => {
    const golden = await readGolden();
    await using llm = await LLM.load(path, { kvCacheDtype: "float32" });
    let worst = 0;
    const close = (actual: number, expected: number, what: string) => {
      worst = Math.max(worst, Math.abs(actual - expected));
      assert(
        Math.abs(actual - expected) <= LOGPROB_TOLERANCE,
        `${what}: ${actual}, not ${expected}`,
      );
    };
    await Promise.all(golden.greedy.map(async (item) => {
      const params = new SamplingParams({
        temperature: 0,
        maxTokens: item.max_tokens,
        logprobs: 5,
      });
      const result = item.messages === undefined
        ? await llm.generate(item.prompt as string, params, { addSpecialTokens: false })
        : await llm.chat(item.messages, params);
      const [output] = result.outputs;
      assertEquals(result.promptTokenIds, item.prompt_ids);
      assertEquals(output?.tokenIds, item.ids);
      assertEquals([output?.text, output?.finishReason], [item.text, item.finish]);
      for (const [i, step] of item.steps.entries()) {
        const map = output?.logprobs?.[i];
        close(logprobOf(map, step.id), step.logprob, `step ${i} of ${JSON.stringify(item.text)}`);
        for (const [id, logprob] of step.top5) {
          close(logprobOf(map, id), logprob, `top 5 of step ${i}`);
        }
        assertEquals(map?.get(step.id)?.rank, 1);
      }
    }));
    for (const item of golden.prompt_logprobs) {
      const params = new SamplingParams({ temperature: 0, maxTokens: 1, promptLogprobs: 1 });
      const result = await llm.generate(item.text, params, { addSpecialTokens: false });
      assertEquals(result.promptTokenIds, item.ids);
      assertEquals(result.promptLogprobs?.[0], null);
      for (const [i, id] of item.ids.entries()) {
        if (i === 0) continue;
        const map = result.promptLogprobs?.[i];
        close(logprobOf(map, id), item.logprobs[i] as number, `token ${i} of "${item.text}"`);
        assertEquals(map?.get(id)?.rank, item.ranks[i]);
      }
    }
    const nll = await perplexityNlls(llm);
    assertEquals(nll.length + 1, golden.perplexity.tokens);
    close(mean(nll), golden.perplexity.nll_mean, "mean NLL");
    close(
      mean(nll.slice(0, 511)),
      golden.perplexity.first_512_nll_mean,
      "mean NLL of the first 512",
    );
    const kernels = (await llm.trace()).map((entry) => entry.kernel);
    assert(
      kernels.length > 0 && kernels.every((name) => name.startsWith("simd.")),
      kernels.join(" "),
    );
    console.log(`largest difference ${worst.toExponential(1)}`);
  },
);

modelTest("SmolLM2 with bfloat16 KV keeps perplexity and clear decisions", async (path) => {
  const golden = await readGolden();
  await using llm = await LLM.load(path);
  const perplexity = Math.exp(mean(await perplexityNlls(llm)));
  const expected = Math.exp(golden.perplexity.nll_mean);
  assert(Math.abs(perplexity / expected - 1) <= 0.005, `perplexity ${perplexity}, not ${expected}`);

  // Teacher-forced: the reference's own tokens are the prompt, and each must be the likeliest.
  const params = new SamplingParams({ temperature: 0, maxTokens: 1, promptLogprobs: 0 });
  let clear = 0;
  let agreed = 0;
  for (const item of golden.greedy) {
    const promptTokenIds = [...item.prompt_ids, ...item.ids];
    const result = await llm.generate({ promptTokenIds }, params);
    for (const [i, step] of item.steps.entries()) {
      if (step.margin <= 0.1) continue;
      clear++;
      const map = result.promptLogprobs?.[item.prompt_ids.length + i];
      if (map?.get(step.id)?.rank === 1) agreed++;
    }
  }
  assert(clear > 200, `only ${clear} steps are clear`);
  assert(agreed / clear >= 0.99, `${agreed} of ${clear} clear steps agree`);
});

modelTest(
  "SmolLM2 repacked as float32 gives the same bits: nothing is lost on the way",
  async (path) => {
    const params = new SamplingParams({ temperature: 0, maxTokens: 12, logprobs: 2 });
    const ask = async (options: LLMOptions) => {
      await using llm = await LLM.load(path, { maxModelLength: 512, ...options });
      const { outputs } = await llm.generate("The three primary colours are", params);
      return { outputs, info: llm.info };
    };
    const stored = await ask({});
    const expanded = await ask({ dtype: "float32" });
    assertEquals(expanded.outputs, stored.outputs);
    assertEquals(expanded.info.weightBytes, 4 * expanded.info.parameterCount - 4 * 61 * 576);
    assert(expanded.info.fingerprint !== stored.info.fingerprint);
  },
);

modelTest(
  "SmolLM2 with integer activations says so, and is nearly as sure of a text as without",
  async (path) => {
    const text = "The capital of France is Paris, and the capital of Italy is Rome.";
    const params = new SamplingParams({ temperature: 0, maxTokens: 1, promptLogprobs: 0 });
    const measure = async (activationDtype: NonNullable<LLMOptions["activationDtype"]>) => {
      await using llm = await LLM.load(path, { maxModelLength: 512, activationDtype });
      assertEquals(llm.info.activationDtype, activationDtype);
      const { promptLogprobs, promptTokenIds } = await llm.generate(text, params);
      const sum = promptTokenIds.slice(1).reduce(
        (total, id, i) => total + (promptLogprobs?.[i + 1]?.get(id)?.logprob ?? NaN),
        0,
      );
      return { mean: sum / (promptTokenIds.length - 1), fingerprint: llm.info.fingerprint };
    };
    const [float32, int16, int8] = [
      await measure("float32"),
      await measure("int16"),
      await measure("int8"),
    ];
    assert(float32.mean < 0 && float32.mean > -4, `${float32.mean}`);
    assert(Math.abs(int16.mean - float32.mean) < 2e-3, `${int16.mean}, not ${float32.mean}`);
    assert(Math.abs(int8.mean - float32.mean) < 5e-2, `${int8.mean}, not ${float32.mean}`);
    assert(int8.mean !== int16.mean && int16.mean !== float32.mean);
    assertEquals(new Set([float32, int16, int8].map(({ fingerprint }) => fingerprint)).size, 3);
  },
);
