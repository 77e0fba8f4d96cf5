/** `POST /reset_prefix_cache`: forgets all cached prompt beginnings; there only in development mode. */

import { readFields } from "./body.ts";
import type { RouteContext } from "./context.ts";

/** 200 when the cache is empty, 409 while requests use it. Neither has a body. */
export async function postResetPrefixCache(context: RouteContext): Promise<Response> {
  const { request, llm } = context;
  // Clients name a content type also where they send no body.
  const { headers } = request;
  if (headers.has("content-type") && headers.get("content-length") !== "0") {
    const fields = await readFields(context);
    fields.choice("target", ["all", "npu"]);
  }
  return new Response(null, { status: llm.resetPrefixCache() ? 200 : 409 });
}
