/** What every route is given: the model, the settings and this request's own facts. */

import type { EmbedOptions, EncodeOptions, LLM, PoolingOptions, Prompt } from "../llm.ts";
import type {
  ClassificationRequestOutput,
  EmbeddingRequestOutput,
  PoolingRequestOutput,
} from "../outputs.ts";
import type { PoolingParams } from "../pooling/params.ts";
import { badRequest, show } from "./errors.ts";
import type { RequestCounts } from "./request_counts.ts";
import type { StreamHooks } from "./sse.ts";
import type { Usage } from "./types.ts";

/** The part of {@linkcode LLM} that the routes use. */
export interface ServedModel extends
  Pick<
    LLM,
    | "info"
    | "isClosed"
    | "stats"
    | "stream"
    | "tokenizeAsync"
    | "tokenizeChat"
    | "detokenize"
    | "detokenizeAsync"
    | "tokenStrings"
    | "tokenizerInfo"
    | "resetPrefixCache"
    | "score"
    | "rerank"
  > {
  /** As {@linkcode LLM.embed}, of several prompts. */
  embed(
    prompts: readonly Prompt[],
    params: PoolingParams,
    options: EmbedOptions,
  ): Promise<EmbeddingRequestOutput[]>;
  /** As {@linkcode LLM.encode}, of several prompts. */
  encode(
    prompts: readonly Prompt[],
    params: PoolingParams,
    options: EncodeOptions,
  ): Promise<PoolingRequestOutput[]>;
  /** As {@linkcode LLM.classify}, of several prompts. */
  classify(
    prompts: readonly Prompt[],
    params: PoolingParams,
    options: PoolingOptions,
  ): Promise<ClassificationRequestOutput[]>;
}

/** The handler's options with their defaults filled in. */
export interface Settings {
  readonly servedModelNames: readonly [string, ...string[]];
  readonly bodySizeLimit: number;
  readonly maxLogprobs: number;
  readonly systemFingerprint: string | null;
  readonly responseRole: string;
  readonly trustRequestChatTemplate: boolean;
  readonly strictModel: boolean;
  readonly defaultChatTemplateKwargs: Readonly<Record<string, unknown>>;
  readonly streamInterval: number;
  readonly forceIncludeUsage: boolean;
  readonly returnTokensAsTokenIds: boolean;
  /** Starts with a slash and does not end with one; or empty. */
  readonly rootPath: string;
  readonly devMode: boolean;
  readonly apiDocument: boolean;
  /** Whether a client must send a key. */
  readonly needsKey: boolean;
  /** When the handler was made, in Unix seconds. */
  readonly startedAt: number;
  /** The answers given so far. */
  readonly requestCounts: RequestCounts;
  readonly onRequest: ((received: ReceivedRequest) => void) | undefined;
  readonly onError: (error: unknown) => void;
}

/** A request whose body was read, and is a JSON object; its fields are not checked yet. */
export interface ReceivedRequest {
  /** As the handler was given it. */
  readonly request: Request;
  /** The id of its answer, without a prefix such as `chatcmpl-`. */
  readonly id: string;
  /** The fields as they were sent. */
  readonly body: Readonly<Record<string, unknown>>;
}

/** One request on its way through a route. */
export interface RouteContext {
  readonly llm: ServedModel;
  readonly settings: Settings;
  readonly request: Request;
  /** 32 hexadecimal digits, for a request that brings no id. */
  readonly id: string;
  /** What the route's pattern left over: the id in `/v1/models/{id}`. */
  readonly rest: string;
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal;
  /** For answers that are not complete when they are returned. */
  readonly hooks: StreamHooks;
  /** Requests for the model that are being answered. */
  readonly load: { readonly count: number };
}

/** Longest id that a client may give its request. */
const REQUEST_ID_MAX = 256;

/** What all answers and chunks of one request share. */
export interface AnswerHead {
  readonly id: string;
  readonly created: number;
  readonly model: string;
}

/**
 * An id for this request: its `X-Request-Id`, else its body's `request_id`, else
 * {@linkcode RouteContext.id}.
 *
 * @throws {HttpError} It is too long: every event of a stream repeats it.
 */
export function answerHead(
  context: RouteContext,
  prefix: string,
  requestId: string | undefined,
): AnswerHead {
  const header = context.request.headers.get("x-request-id");
  checkLength(header, "the header X-Request-Id", "X-Request-Id");
  checkLength(requestId, "request_id", "request_id");
  const name = header || requestId || context.id;
  return {
    id: `${prefix}${name}`,
    created: Math.floor(Date.now() / 1000),
    model: context.settings.servedModelNames[0],
  };
}

/** Whatever the characters of an id are, they are not ours to judge. */
function checkLength(id: string | null | undefined, what: string, param: string): void {
  if (id === null || id === undefined || mayBeRepeated(id)) return;
  throw badRequest(
    `Cannot use ${what} ${show(id)} of ${id.length} characters: it must have at most ` +
      REQUEST_ID_MAX,
    param,
  );
}

/** Whether an id is short enough for answers to repeat it. */
export function mayBeRepeated(id: string): boolean {
  return id.length <= REQUEST_ID_MAX;
}

/** 32 hexadecimal digits. */
export function randomHex(): string {
  return crypto.randomUUID().replaceAll("-", "");
}

/** Token counts as a whole answer and the usage chunk state them. */
export function usage(promptTokens: number, completionTokens: number, cachedTokens: number): Usage {
  return {
    ...plainUsage(promptTokens, completionTokens),
    prompt_tokens_details: { cached_tokens: cachedTokens },
    completion_tokens_details: { reasoning_tokens: 0 },
  };
}

/** Token counts as every chunk states them on request. */
export function plainUsage(promptTokens: number, completionTokens: number): Usage {
  return {
    prompt_tokens: promptTokens,
    total_tokens: promptTokens + completionTokens,
    completion_tokens: completionTokens,
  };
}
