/** The SDK: a model on a device, and what one can ask of it. */

import type { AttentionBucket } from "./device/bucket.ts";
import type { LLMOptions } from "./options.ts";
import type { GenerationDelta, RequestOutput } from "./outputs.ts";
import type { SamplingParams } from "./sampling/params.ts";

/** One prompt: text, or token ids as they are. */
export type Prompt =
  | string
  | { readonly prompt: string }
  | { readonly promptTokenIds: readonly number[] };

/** One message of a conversation, OpenAI-shaped: its keys reach the chat template as they are. */
export interface ChatMessage {
  readonly role: string;
  readonly content?: string | readonly (string | Readonly<Record<string, unknown>>)[] | null;
  readonly [key: string]: unknown;
}

/** What every request takes besides its sampling parameters. */
export interface RequestOptions {
  /** Ends the request; its blocks are freed and the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Shown in outputs. Default: a random UUID. */
  readonly requestId?: string;
  /** Lower runs earlier. Default 0. */
  readonly priority?: number;
  /** Let the tokenizer add its special tokens to a text prompt. Default true; chat: always false. */
  readonly addSpecialTokens?: boolean;
}

/** How a conversation becomes a prompt. */
export interface ChatOptions extends RequestOptions {
  /** A template that replaces the model's for this call. */
  readonly chatTemplate?: string;
  /** End the prompt with the header of the assistant's turn. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Leave the last message open for the model to go on with. Default false. */
  readonly continueFinalMessage?: boolean;
  /** Further template variables. */
  readonly chatTemplateKwargs?: Readonly<Record<string, unknown>>;
  readonly tools?: readonly Readonly<Record<string, unknown>>[];
  readonly documents?: readonly Readonly<Record<string, unknown>>[];
}

/** Facts about a loaded model. */
export interface ModelInfo {
  /** As it was named to `LLM.load`. */
  readonly id: string;
  readonly architecture: string;
  readonly vocabSize: number;
  readonly maxPromptLength: number;
  readonly maxContextLength: number;
  /** Names everything that can change a bit of the output: weights, KV dtype, numerics class. */
  readonly fingerprint: string;
  readonly threads: number;
  readonly parameterCount: number;
  readonly weightBytes: number;
  readonly kvCacheBytes: number;
  readonly hasChatTemplate: boolean;
  readonly buckets: {
    readonly prefill: readonly AttentionBucket[];
    readonly decode: readonly AttentionBucket[];
    readonly append: readonly AttentionBucket[];
    readonly tokenwise: readonly number[];
  };
}

/** A loaded model. */
export class LLM implements AsyncDisposable {
  private constructor(readonly info: ModelInfo) {}

  static load(_model: string, _options: LLMOptions = {}): Promise<LLM> {
    throw new Error("under construction");
  }

  generate(prompt: Prompt, params?: SamplingParams, options?: RequestOptions): Promise<RequestOutput>;
  generate(
    prompts: readonly Prompt[],
    params?: SamplingParams | readonly SamplingParams[],
    options?: RequestOptions,
  ): Promise<RequestOutput[]>;
  generate(): Promise<RequestOutput | RequestOutput[]> {
    throw new Error("under construction");
  }

  chat(
    messages: readonly ChatMessage[],
    params?: SamplingParams,
    options?: ChatOptions,
  ): Promise<RequestOutput>;
  chat(
    conversations: readonly (readonly ChatMessage[])[],
    params?: SamplingParams | readonly SamplingParams[],
    options?: ChatOptions,
  ): Promise<RequestOutput[]>;
  chat(): Promise<RequestOutput | RequestOutput[]> {
    throw new Error("under construction");
  }

  /** Starts when it is first read; every refusal (bad prompt, full queue) comes before the first delta. */
  stream(
    _input: Prompt | readonly ChatMessage[],
    _params?: SamplingParams,
    _options?: ChatOptions,
  ): AsyncGenerator<GenerationDelta, void, void> {
    throw new Error("under construction");
  }

  /** Text → token ids. */
  tokenize(_text: string, _options?: { readonly addSpecialTokens?: boolean }): number[] {
    throw new Error("under construction");
  }

  /** A conversation → the token ids of its prompt. */
  tokenizeChat(_messages: readonly ChatMessage[], _options?: ChatOptions): Promise<number[]> {
    throw new Error("under construction");
  }

  /** Token ids → text, special tokens shown. */
  detokenize(_tokenIds: readonly number[]): string {
    throw new Error("under construction");
  }

  /** The vocabulary's own spelling of each id. */
  tokenStrings(_tokenIds: readonly number[]): string[] {
    throw new Error("under construction");
  }

  async close(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
