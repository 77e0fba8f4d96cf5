/** Which model a repository of compiled artifacts was made from. */

import type { HubListing } from "./hub_listing.ts";

/** Families of pre-compiled models, and who publishes their weights. */
const PUBLISHERS: readonly (readonly [model: RegExp, organization: string])[] = [
  [/^(?:Meta-)?Llama-/, "meta-llama"],
  [/^DeepSeek-/, "deepseek-ai"],
  [/^(?:K-)?EXAONE-/, "LGAI-EXAONE"],
  [/^Qwen/, "Qwen"],
  [/^gpt-oss-/, "openai"],
  [/^solar-/i, "upstage"],
];

/** The publisher's own repositories of these families have no such variants. */
const CONVERTED = /^(Llama-.*|.*-Llama-.*|K-EXAONE-.*|Solar-.*)-(?:FP8|INT8|NVFP4A16)$/i;

/** What the card names; else, for ids of `furiosa-ai`, what the family's name says. */
export function upstreamOf({ id, baseModel }: HubListing): string | undefined {
  if (baseModel !== undefined && baseModel !== id) return baseModel;
  const [organization, model = ""] = id.split("/");
  const publisher = PUBLISHERS.find(([pattern]) => pattern.test(model))?.[1];
  if (organization !== "furiosa-ai" || publisher === undefined) return undefined;
  return `${publisher}/${model.replace(CONVERTED, "$1")}`;
}
