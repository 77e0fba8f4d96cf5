/** Any error → an HTTP status and the one envelope that OpenAI's and vLLM's clients read. */

import {
  ChatTemplateError,
  ClosedError,
  ContextLengthError,
  InvalidParameterError,
  QueueFullError,
  UnsupportedTaskError,
} from "../base/errors.ts";
import { writeJson } from "./json.ts";
import type { ErrorBody } from "./types.ts";
import { wireWords } from "./wire_words.ts";

const TYPES: Readonly<Record<number, string>> = {
  400: "BadRequestError",
  401: "AuthenticationError",
  404: "NotFoundError",
  405: "MethodNotAllowedError",
  413: "PayloadTooLargeError",
  415: "UnsupportedMediaTypeError",
  500: "InternalServerError",
  503: "ServiceUnavailableError",
};

/** An answer that is not a success, on its way to the client. */
export class HttpError extends Error {
  override name = "HttpError";
  readonly status: number;
  readonly param: string | null;
  readonly type: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    message: string,
    details: {
      readonly param?: string | null;
      readonly type?: string;
      readonly headers?: Readonly<Record<string, string>>;
    } = {},
  ) {
    super(message);
    this.status = status;
    this.param = details.param ?? null;
    this.type = details.type ?? TYPES[status] ?? "InternalServerError";
    this.headers = details.headers ?? {};
  }

  /** The envelope. */
  body(): ErrorBody {
    return {
      error: { message: this.message, type: this.type, param: this.param, code: this.status },
    };
  }
}

/** A value of the request that breaks a rule; `param` is its wire name. */
export function badRequest(message: string, param: string | null = null): HttpError {
  return new HttpError(400, message, { param });
}

/** A value of the request whose type or shape is wrong: vLLM tells these apart by type and param. */
export function badShape(message: string, path: string): HttpError {
  const param = path === "" ? "body" : `body.${path}`;
  return new HttpError(400, message, { type: "Bad Request", param });
}

/** The model as the library calls it, and as clients know it. */
export interface ModelNames {
  readonly id: string;
  readonly servedName: string;
}

/**
 * What a client is told of an error. Whatever is not known to be meant for it is a plain 500.
 *
 * @param model Whose id is a path for many, and then nobody's business.
 */
export function toHttpError(error: unknown, model?: ModelNames): HttpError {
  const told = (message: string) =>
    model === undefined ? withoutPaths(message) : message.split(`"${model.id}"`).map(withoutPaths)
      .join(`"${model.servedName}"`);
  if (error instanceof HttpError) return error;
  if (error instanceof InvalidParameterError) {
    const name = snakeCase(error.parameter);
    // A request has its token ids in a field of another name, or from a template.
    const param = error.parameter === "promptTokenIds" ? null : name;
    return badRequest(told(wireWords(error, name)), param);
  }
  if (error instanceof ContextLengthError) return contextLength(error);
  if (error instanceof ChatTemplateError) {
    const { parameter, message } = error;
    if (parameter === undefined) return badRequest(told(message));
    const param = snakeCase(parameter);
    return badRequest(told(message.replaceAll(parameter, param)), param);
  }
  if (error instanceof UnsupportedTaskError) {
    return new HttpError(400, told(error.message), { type: "model_not_supported" });
  }
  if (error instanceof QueueFullError) {
    const retryAfter = String(Math.max(1, Math.ceil(error.retryAfterSeconds)));
    return new HttpError(503, error.message, { headers: { "retry-after": retryAfter } });
  }
  if (error instanceof ClosedError) {
    // Another one takes its place before long, or stands behind the same balancer.
    return new HttpError(503, "The server is shutting down", { headers: { "retry-after": "1" } });
  }
  return new HttpError(500, "Internal server error");
}

/** The whole answer to a request that failed. */
export function errorResponse(error: HttpError): Response {
  return new Response(writeJson(error.body()), {
    status: error.status,
    headers: { "content-type": "application/json", ...error.headers },
  });
}

/** `topP` → `top_p`. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** A value of the request for a message: short, quoted, and never a whole structure. */
export function show(value: unknown): string {
  if (typeof value === "string") {
    return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
  }
  if (Array.isArray(value)) return "[…]";
  if (typeof value === "object" && value !== null) return "{…}";
  return String(value);
}

/**
 * Of a prompt that is too long, by itself or with its answer. By itself it need not have been
 * tokenized to the end.
 *
 * @param askedCount tokens that the request asked for; they are not counted in the error of a
 * prompt that is too long by itself
 */
export function contextLength(error: ContextLengthError, askedCount = 0): HttpError {
  const { tokenCount, tokenLimit, outputTokenCount } = error;
  const promptCount = tokenCount - outputTokenCount;
  const [outputCount, atLeast] = outputTokenCount === 0
    ? [askedCount, "at least "]
    : [outputTokenCount, ""];
  // Clients recognise an overflow by the first sentence; LangChain and LiteLLM search for it.
  return badRequest(
    `This model's maximum context length is ${tokenLimit} tokens. However, you requested ` +
      `${outputCount} output tokens and your prompt contains ${atLeast}${promptCount} input ` +
      `tokens, for a total of ${atLeast}${promptCount + outputCount} tokens. Please reduce the ` +
      "length of the input prompt or the number of requested output tokens.",
    "input_tokens",
  );
}

/** Where the server keeps its files is nobody's business. */
function withoutPaths(message: string): string {
  return message
    .replace(/file:\/\/[^\s"'`)]+/g, "<path>")
    .replace(/(^|[\s"'`(:=])(?:\/[^\s"'`/:,()]+){2,}\/?/g, "$1<path>")
    .replace(/\b[A-Za-z]:\\[^\s"'`,()]+/g, "<path>");
}
