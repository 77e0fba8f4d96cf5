/** `stream`, `stream_options` and `stream_interval`. */

import type { Fields } from "./body.ts";
import type { Settings } from "./context.ts";
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
 * @param defaults what counts where the request does not say; with `forceIncludeUsage` every stream
 * ends with its token counts, asked for or not
 */
export function readDelivery(
  fields: Fields,
  defaults: Pick<Settings, "forceIncludeUsage" | "streamInterval">,
): Delivery {
  const stream = fields.boolean("stream") ?? false;
  const options = fields.object("stream_options");
  if (!stream && Object.keys(fields.record("stream_options") ?? {}).length > 0) {
    throw badRequest(
      "Stream options can only be defined when `stream=True`.",
      "stream_options",
    );
  }
  const includeUsage = (options?.boolean("include_usage") ?? false) ||
    (stream && defaults.forceIncludeUsage);
  const continuous = options?.boolean("continuous_usage_stats") ?? false;
  return {
    stream,
    includeUsage,
    continuousUsage: includeUsage && continuous,
    interval: readInterval(fields, defaults.streamInterval),
  };
}

function readInterval(fields: Fields, standard: number): number {
  const interval = fields.integer("stream_interval") ?? standard;
  if (interval >= 1) return interval;
  throw badRequest(
    `stream_interval must be greater than or equal to 1, got ${interval}.`,
    "stream_interval",
  );
}
