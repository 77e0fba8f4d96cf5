/** What the command says once it is ready. */

import type { LLM } from "../mod.ts";

/** Facts for the banner. */
export interface BannerFacts {
  readonly info: Pick<
    LLM["info"],
    | "architecture"
    | "task"
    | "parameterCount"
    | "maxPromptLength"
    | "maxContextLength"
    | "hasChatTemplate"
    | "kernelFallbacks"
  >;
  readonly name: string;
  readonly version: string;
  readonly address: { readonly hostname: string; readonly port: number };
  readonly needsKey: boolean;
}

/** Name, address, model, context, and a line to copy. */
export function banner(facts: BannerFacts, bold: (text: string) => string): string {
  const { info, address: { hostname, port } } = facts;
  // A browser or curl cannot connect to "any address", and an IPv6 address needs brackets.
  const any = ["0.0.0.0", "::", "[::]"].includes(hostname);
  const name = hostname.includes(":") ? `[${hostname}]` : hostname;
  const url = `http://${any ? "localhost" : name}:${port}`;
  const millions = Math.round(info.parameterCount / 1e6).toLocaleString("en");
  const count = (tokens: number) => tokens.toLocaleString("en");
  return [
    "",
    `  ${bold(facts.name)} is ready at ${bold(url)}`,
    "",
    `  Model    ${info.architecture}, ${millions} M parameters`,
    info.task === "generate"
      ? `  Context  ${count(info.maxContextLength)} tokens, prompt and answer together`
      : `  Context  ${count(info.maxPromptLength)} tokens a text`,
    `  Server   rngd-llm ${facts.version}; Ctrl-C ends it`,
    ...(any && !facts.needsKey
      ? [
        "  Access   anyone on the network, without a key; --host 127.0.0.1 keeps it to this machine",
      ]
      : []),
    ...info.kernelFallbacks.map((fallback) => `  Warning  slow, as kernels fail here: ${fallback}`),
    "",
    `  ${curlLine(url, facts)}`,
    "",
  ].join("\n");
}

function curlLine(url: string, facts: BannerFacts): string {
  const key = facts.needsKey ? ` -H "Authorization: Bearer YOUR_KEY"` : "";
  const [route, body] = sampleRequest(facts.info);
  return `curl ${url}${route} -H "Content-Type: application/json"${key} -d '${
    JSON.stringify(body)
  }'`;
}

/** A request that the model can serve. Its texts hold no quote that would end the shell's. */
function sampleRequest(
  { task, hasChatTemplate }: Pick<BannerFacts["info"], "task" | "hasChatTemplate">,
): [route: string, body: object] {
  switch (task) {
    case "generate":
      if (!hasChatTemplate) return ["/v1/completions", { prompt: "The sky is", max_tokens: 32 }];
      return ["/v1/chat/completions", {
        messages: [{ role: "user", content: "Why is the sky blue?" }],
        max_tokens: 100,
      }];
    case "embed":
      return ["/v1/embeddings", { input: "The sky is blue." }];
    case "score":
      return ["/rerank", {
        query: "Why is the sky blue?",
        documents: ["Air scatters blue light most.", "Shares fell."],
      }];
    case "classify":
      return ["/classify", { input: "The sky is blue." }];
    default:
      return task satisfies never;
  }
}
