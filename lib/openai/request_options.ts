/** What every request for the model may carry besides its parameters: priority, salt, and whose trace it belongs to. */

import type { RequestOptions } from "../llm.ts";
import type { Fields } from "./body.ts";
import type { AnswerHead, RouteContext } from "./context.ts";
import { badRequest, show } from "./errors.ts";

/** Longest salt, as the SDK has it. */
const CACHE_SALT_MAX = 1024;

/** The SDK's options for a request that is answered under `head`. */
export function readRequestOptions(
  fields: Fields,
  { request: { headers }, signal }: RouteContext,
  head: AnswerHead,
): Pick<RequestOptions, "priority" | "cacheSalt" | "trace" | "signal"> {
  const ofBody = fields.int64("priority"); // wrong is wrong, even where the header beats it
  const priority = readPriorityHeader(headers) ??
    (ofBody === undefined ? undefined : Number(ofBody));
  const cacheSalt = readCacheSalt(fields);
  const traceparent = headers.get("traceparent");
  return {
    signal,
    ...(priority === undefined ? {} : { priority }),
    ...(cacheSalt === undefined ? {} : { cacheSalt }),
    trace: {
      requestId: head.id,
      model: head.model,
      ...(traceparent === null ? {} : { traceparent }),
    },
  };
}

/** The same for one of several prompts: their spans are told apart. */
export function optionsOfPrompt<Options extends Pick<RequestOptions, "trace">>(
  options: Options,
  index: number,
  count: number,
): Options {
  const { requestId, ...trace } = options.trace ?? {};
  if (count === 1 || requestId === undefined) return options;
  return { ...options, trace: { ...trace, requestId: `${requestId}-${index}` } };
}

/** Lower runs earlier. Gateways set it for clients that cannot be asked to. */
function readPriorityHeader(headers: Headers): number | undefined {
  const value = headers.get("x-vllm-priority");
  if (value === null) return undefined;
  if (/^[+-]?\d+$/.test(value) && Number.isSafeInteger(Number(value))) return Number(value);
  throw badRequest(
    `Cannot use the header X-Vllm-Priority ${show(value)}: it must be an integer`,
    "X-Vllm-Priority",
  );
}

function readCacheSalt(fields: Fields): string | undefined {
  const salt = fields.string("cache_salt");
  if (salt === undefined || (salt !== "" && salt.length <= CACHE_SALT_MAX)) return salt;
  throw salt === ""
    ? fields.shapeError("cache_salt", salt, "at least one character", "string_too_short")
    : fields.shapeError(
      "cache_salt",
      salt,
      `at most ${CACHE_SALT_MAX} characters`,
      "string_too_long",
    );
}
