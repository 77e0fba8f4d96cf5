/** The golden cases of the tiny models: their configs, and what a right forward pass gives. */

/** One file of tests/golden/models. */
export interface GoldenModel {
  readonly name: string;
  readonly architectures: readonly string[];
  readonly model_type: string;
  /** config.json's fields, in the spelling of transformers 4. */
  readonly config: Readonly<Record<string, unknown>> & { readonly vocab_size: number };
  readonly expect: {
    /** Length of the prompt. */
    readonly T: number;
    /** Mean over the vocabulary of the logits at each position. */
    readonly mean: readonly number[];
    /** The first eight logits at the last position. */
    readonly last8: readonly number[];
    readonly argmax: readonly number[];
    /** The next twelve greedy tokens. */
    readonly greedy12: readonly number[];
    /** The smallest gap between the best two logits while those were generated. */
    readonly margin: number;
    readonly params: number;
    readonly tensors: number;
  };
}

/** bert.json and roberta.json of tests/golden/models: an encoder's hidden states. */
export interface GoldenEncoder extends Pick<GoldenModel, "name" | "architectures" | "model_type"> {
  readonly config: GoldenModel["config"] & { readonly hidden_size: number };
  readonly expect: {
    /** A prompt and padding, which has the mask 0. */
    readonly ids: readonly number[];
    readonly types: readonly number[];
    readonly mask: readonly number[];
    /** The first eight numbers of the first token's state. */
    readonly cls8: readonly number[];
    /** Of the last token's that is not padding. */
    readonly last_real8: readonly number[];
    /** Of the mean over all that are not padding. */
    readonly mean8: readonly number[];
    readonly params: number;
    readonly tensors: number;
  };
}

/** tests/golden/models/*-fp8-*.json: weights of eight bits, and six greedy tokens. */
export interface GoldenFp8 extends Omit<GoldenModel, "expect"> {
  readonly expect: Pick<GoldenModel["expect"], "T" | "mean" | "last8" | "argmax" | "margin"> & {
    readonly greedy6: readonly number[];
    /** How many tensors are of eight bits. */
    readonly fp8_tensors: number;
  };
}

/** Reads one case of eight bits. */
export function goldenFp8(name: "qwen3-fp8-block" | "llama-fp8-channel"): GoldenFp8 {
  return readCase(name) as GoldenFp8;
}

/** The decoders' cases there are. */
export const GOLDEN_MODEL_NAMES = [
  "llama",
  "mistral",
  "qwen2",
  "qwen3",
  "qwen3-yarn",
  "exaone4-full",
  "exaone4-hybrid",
  "gemma3",
  "gemma3-softcap",
  "qwen3_moe",
  "gpt_oss",
  "exaone_moe",
  "solar_open",
] as const;

/** The name of a case. */
export type GoldenModelName = typeof GOLDEN_MODEL_NAMES[number];

/** Reads one case. */
export function goldenModel(name: GoldenModelName): GoldenModel {
  return readCase(name) as GoldenModel;
}

/** Reads an encoder's case. */
export function goldenEncoder(name: "bert" | "roberta" = "bert"): GoldenEncoder {
  return readCase(name) as GoldenEncoder;
}

function readCase(name: string): unknown {
  const url = new URL(`../golden/models/${name}.json`, import.meta.url);
  return JSON.parse(Deno.readTextFileSync(url));
}

/** The token ids that a case's expected values are for. */
export function goldenPrompt({ config, expect }: GoldenModel | GoldenFp8): number[] {
  return Array.from({ length: expect.T }, (_, i) => (7 * i * i + 3 * i + 5) % config.vocab_size);
}
