/** `stream`, `stream_options` and `stream_interval`. */

import type { Fields } from "./body.ts";
import { badRequest } from "./errors.ts";

/** How an answer is delivered. */
export interface Delivery {
  readonly stream: boolean;
  /** Send a last chunk with the token counts. */
  readonly includeUsage: boolean;
  /** Send the token counts so far with every chunk. */
  readonly continuousUsage: boolean;
  /** Tokens a chunk, the first and the last one of a choice apart. */
  readonly interval: number;
}

/**
 * Reads how the client wants its answer.
 *
 * @param forceUsage every stream ends with its token counts, asked for or not
 */
export function readDelivery(fields: Fields, forceUsage: boolean = false): Delivery {
  const stream = fields.boolean("stream") ?? false;
  const options = fields.object("stream_options");
  if (!stream && Object.keys(fields.record("stream_options") ?? {}).length > 0) {
    throw badRequest(
      "Stream options can only be defined when `stream=True`.",
      "stream_options",
    );
  }
  const includeUsage = (options?.boolean("include_usage") ?? false) || (stream && forceUsage);
  const continuous = options?.boolean("continuous_usage_stats") ?? false;
  return {
    stream,
    includeUsage,
    continuousUsage: includeUsage && continuous,
    interval: readInterval(fields),
  };
}

function readInterval(fields: Fields): number {
  const interval = fields.integer("stream_interval") ?? 1;
  if (interval >= 1) return interval;
  throw badRequest(
    `stream_interval must be greater than or equal to 1, got ${interval}.`,
    "stream_interval",
  );
}
