/** `GET /tokenizer_info`: the tokenizer's settings, as its checkpoint states them. */

import type { RouteContext } from "./context.ts";
import { jsonResponse } from "./json.ts";

/** Answers with the settings, the chat template among them. */
export function getTokenizerInfo({ llm }: RouteContext): Response {
  return jsonResponse(llm.tokenizerInfo());
}
