/**
 * Flags that a later release will have. To ignore them would change what clients are answered, or
 * let in whom they should keep out.
 */

import type { Flag } from "./flag.ts";

const group = "Not supported yet";

/** The rows of these flags. */
export const REFUSED_FLAGS: readonly Flag[] = [
  { name: "enable-auto-tool-choice", group, help: "tool calling" },
  { name: "tool-call-parser", group, value: "NAME", help: "tool calling" },
  { name: "tool-parser-plugin", group, value: "FILE", help: "tool calling" },
  { name: "exclude-tools-when-tool-choice-none", group, help: "tool calling" },
  { name: "enable-reasoning", group, help: "reasoning" },
  { name: "reasoning-parser", group, value: "NAME", help: "reasoning" },
  { name: "reasoning-parser-plugin", group, value: "FILE", help: "reasoning" },
  { name: "guided-decoding-backend", group, value: "NAME", help: "structured output" },
  {
    name: "structured-outputs-backend",
    group,
    value: "NAME",
    help: "structured output",
  },
  { name: "structured-outputs-config", group, value: "JSON", help: "structured output" },
  { name: "tool-server", group, value: "LIST", help: "tool calling" },
  { name: "enable-prompt-embeds", group, help: "a prompt of vectors" },
  { name: "pooler-config", group, value: "JSON", help: "a choice of pooling" },
  {
    name: "experimental-kv-transfer-config",
    group,
    value: "JSON",
    help: "to read prompts on one server and answer on another",
  },
  { name: "enable-per-request-metrics", group, help: "a request's own times in its answer" },
  { name: "score-template", group, value: "NAME", help: "a choice of prompts for pairs" },
  { name: "ssl-ca-certs", group, value: "FILE", help: "to ask clients for certificates" },
  { name: "ssl-ciphers", group, value: "LIST", help: "a choice of ciphers" },
  { name: "enable-ssl-refresh", group, help: "to read a renewed certificate while serving" },
  { name: "enable-responses-api-store", group, help: "the Responses API" },
  {
    name: "responses-api-store-max-entries",
    group,
    value: "COUNT",
    help: "the Responses API",
  },
  { name: "responses-api-store-ttl", group, value: "SECONDS", help: "the Responses API" },
];
