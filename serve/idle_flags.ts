/**
 * Flags of Furiosa-LLM and vLLM that have nothing to act on here: command lines that work there
 * should work here too. Their values are checked, and the start says once that they do nothing.
 */

import { type Flag, IDLE_GROUP as group } from "./flag.ts";
import { choice, devices, integer, number, parallelSize, supported } from "./flag_values.ts";

const cores = "--threads says how many processing elements there are";
const oneCard = "there is one emulated card";
const noDraft = "there is no speculative decoding";
const oneScheduler = "there is one scheduler, and it needs no such limit";
const always = "this is always so";
const noOutputs = "what is answered is never logged";
const headLimits = "Deno limits the head of a request by itself";

/** The rows of these flags. */
export const IDLE_FLAGS: readonly Flag[] = [
  {
    name: "tensor-parallel-size",
    aliases: ["-tp"],
    group,
    value: "COUNT",
    help: cores,
    read: parallelSize,
  },
  {
    name: "pipeline-parallel-size",
    aliases: ["-pp"],
    group,
    value: "COUNT",
    help: oneCard,
    read: integer(1),
  },
  {
    name: "data-parallel-size",
    aliases: ["-dp"],
    group,
    value: "COUNT",
    help: oneCard,
    read: integer(1),
  },
  {
    name: "data-parallel-routing-policy",
    group,
    value: "scoring|round-robin",
    help: oneCard,
    read: choice("scoring", "round-robin"),
  },
  {
    name: "data-parallel-scoring-profile",
    group,
    value: "balanced|locality|load",
    help: oneCard,
    read: choice("balanced", "locality", "load"),
  },
  {
    name: "devices",
    group,
    value: "LIST",
    help: `${oneCard}; the names are checked, such as npu:0, npu:0:3, npu:0:4-7 or npu:0,npu:1`,
    read: devices,
  },
  { name: "device-mesh", group, value: "MESH", help: oneCard },
  {
    name: "max-prompt-len",
    group,
    value: "TOKENS",
    help: "--max-model-len limits prompt and answer together",
    read: integer(1),
  },
  {
    name: "min-batch-size",
    group,
    value: "COUNT",
    help: "a step takes what there is, from one sequence on",
    read: integer(1),
  },
  { name: "scheduler-kind", group, value: "NAME", help: "there is one scheduler" },
  {
    name: "experimental-scheduling-loop-type",
    group,
    value: "eager|step_based",
    help: "there is one scheduler",
    read: choice("eager", "step_based", "overlap"),
  },
  {
    name: "prefill-chunk-size",
    group,
    value: "TOKENS",
    help: "prompts are read in chunks that --max-num-batched-tokens limits",
    read: integer(1),
  },
  { name: "npu-queue-limit", group, value: "COUNT", help: oneScheduler, read: integer(1) },
  {
    name: "max-processing-samples",
    group,
    value: "COUNT",
    help: "--max-waiting-requests limits the queue",
    read: integer(1),
  },
  {
    name: "spare-blocks-ratio",
    group,
    value: "RATIO",
    help: "a request that finds no block waits, and none is kept in reserve",
    read: number(0, 1),
  },
  {
    name: "estimation-time-limit-ms",
    group,
    value: "MILLISECONDS",
    help: oneScheduler,
    read: integer(0),
  },
  {
    name: "batch-scheduling-budget-ms",
    group,
    value: "MILLISECONDS",
    help: oneScheduler,
    read: integer(0),
  },
  {
    name: "prefix-cache-lookahead-requests",
    group,
    value: "COUNT",
    help: "every request is looked up in the prefix cache when it starts",
    read: integer(0),
  },
  { name: "enable-overlap-scheduling", group, help: "there is one scheduler" },
  { name: "profile-guided-decode-batching", group, help: "there is one scheduler" },
  { name: "speculative-model", group, value: "MODEL", help: noDraft },
  { name: "num-speculative-tokens", group, value: "COUNT", help: noDraft, read: integer(1) },
  {
    name: "speculative-draft-tensor-parallel-size",
    aliases: ["-draft-tp"],
    group,
    value: "COUNT",
    help: noDraft,
    read: parallelSize,
  },
  {
    name: "speculative-draft-pipeline-parallel-size",
    aliases: ["-draft-pp"],
    group,
    value: "COUNT",
    help: noDraft,
    read: integer(1),
  },
  {
    name: "speculative-draft-data-parallel-size",
    aliases: ["-draft-dp"],
    group,
    value: "COUNT",
    help: noDraft,
    read: integer(1),
  },
  {
    name: "max-io-memory-mb",
    group,
    value: "MEGABYTES",
    help: "the card's memory is the process's own",
    read: integer(1),
  },
  { name: "enable-jit-wiring", group, help: "wires are always made when a step first needs them" },
  { name: "use-mock-backend", group, help: "the card is always emulated" },
  { name: "enable-metrics", group, help: always },
  { name: "enable-prompt-tokens-details", group, help: always },
  { name: "enable-server-load-tracking", group, help: always },
  { name: "enable-tokenizer-info-endpoint", group, help: always },
  { name: "enable-chunked-prefill", group, help: always },
  { name: "enable-log-outputs", group, help: noOutputs },
  { name: "enable-log-deltas", group, help: noOutputs },
  {
    name: "logprobs-mode",
    group,
    value: "raw_logprobs",
    help: "log-probabilities are those of the model, before anything changes them for the choice",
    read: supported(["raw_logprobs"], ["processed_logprobs", "raw_logits", "processed_logits"]),
  },
  {
    name: "ssl-cert-reqs",
    group,
    value: "0",
    help: "clients are not asked for certificates",
    read: noClientCertificates,
  },
  {
    name: "h11-max-incomplete-event-size",
    group,
    value: "BYTES",
    help: headLimits,
    read: integer(1),
  },
  { name: "h11-max-header-count", group, value: "COUNT", help: headLimits, read: integer(1) },
  { name: "disable-log-requests", group, help: "that is so without --enable-log-requests" },
  {
    name: "seed",
    group,
    value: "NUMBER",
    help: "a request that wants to be repeated sends its own seed",
    read: integer(Number.MIN_SAFE_INTEGER),
  },
  { name: "trust-remote-code", group, help: "no code of a model is ever run" },
  {
    name: "gpu-memory-utilization",
    group,
    value: "RATIO",
    help: "--kv-cache-bytes says how much memory keys and values get",
    read: number(0, 1),
  },
  {
    name: "block-size",
    group,
    value: "TOKENS",
    help: "the size of a KV block is the card's",
    read: integer(1),
  },
  { name: "swap-space", group, value: "GIGABYTES", help: "nothing is swapped", read: number(0) },
  { name: "enforce-eager", group, help: "there are no graphs to capture" },
];

/** Python's `ssl.CERT_NONE`; 1 and 2 would let in only clients that have a certificate. */
function noClientCertificates(text: string): number {
  const value = integer(0, 2)(text);
  if (value === 0) return value;
  throw new RangeError("certificates of clients are not supported yet, give 0");
}
