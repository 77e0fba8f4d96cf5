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
  readonly address: Address;
  readonly needsKey: boolean;
}

/** Where the server listens. */
export type Address =
  | { readonly hostname: string; readonly port: number; readonly isSecure?: boolean }
  | { readonly path: string };

/** Name, address, model, context, and a line to copy. */
export function banner(facts: BannerFacts, bold: (text: string) => string): string {
  const { info, address } = facts;
  const isOpen = "hostname" in address && ANY_ADDRESS.includes(address.hostname);
  const millions = Math.round(info.parameterCount / 1e6).toLocaleString("en");
  const count = (tokens: number) => tokens.toLocaleString("en");
  return [
    "",
    `  ${bold(facts.name)} is ready at ${bold("path" in address ? address.path : urlOf(address))}`,
    "",
    `  Model    ${info.architecture}, ${millions} M parameters`,
    info.task === "generate"
      ? `  Context  ${count(info.maxContextLength)} tokens, prompt and answer together`
      : `  Context  ${count(info.maxPromptLength)} tokens a text`,
    `  Server   rngd-llm ${facts.version}; Ctrl-C ends it`,
    ...(isOpen && !facts.needsKey
      ? [
        "  Access   anyone on the network, without a key; --host 127.0.0.1 keeps it to this machine",
      ]
      : []),
    ...info.kernelFallbacks.map((fallback) => `  Warning  slow, as kernels fail here: ${fallback}`),
    "",
    `  ${curlLine(facts)}`,
    "",
  ].join("\n");
}

const ANY_ADDRESS: readonly string[] = ["0.0.0.0", "::", "[::]"];

/** A browser or curl cannot connect to "any address", and an IPv6 address needs brackets. */
function urlOf({ hostname, port, isSecure = false }: Exclude<Address, { path: string }>): string {
  const name = hostname.includes(":") ? `[${hostname.replaceAll(/[[\]]/g, "")}]` : hostname;
  const host = ANY_ADDRESS.includes(hostname) ? "localhost" : name;
  return `${isSecure ? "https" : "http"}://${host}:${port}`;
}

function curlLine(facts: BannerFacts): string {
  const { address } = facts;
  const place = "path" in address
    ? `--unix-socket ${address.path} http://localhost`
    : urlOf(address);
  const key = facts.needsKey ? ` -H "Authorization: Bearer YOUR_KEY"` : "";
  const [route, body] = sampleRequest(facts.info);
  return `curl ${place}${route} -H "Content-Type: application/json"${key} -d '${
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
