/** `stream` and `stream_options`. */

import type { Fields } from "./body.ts";
import { badRequest } from "./errors.ts";

/** How an answer is delivered. */
export interface Delivery {
  readonly stream: boolean;
  /** Send a last chunk with the token counts. */
  readonly includeUsage: boolean;
  /** Send the token counts so far with every chunk. */
  readonly continuousUsage: boolean;
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
  return { stream, includeUsage, continuousUsage: includeUsage && continuous };
}
