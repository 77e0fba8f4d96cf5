/** Flags that a later release will have. To ignore them would change what clients are answered. */

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
  { name: "guided-decoding-backend", group, value: "NAME", help: "structured outputs" },
  {
    name: "structured-outputs-backend",
    group,
    value: "NAME",
    help: "structured outputs",
  },
  { name: "enable-responses-api-store", group, help: "the Responses API" },
  {
    name: "responses-api-store-max-entries",
    group,
    value: "COUNT",
    help: "the Responses API",
  },
  { name: "responses-api-store-ttl", group, value: "SECONDS", help: "the Responses API" },
];
