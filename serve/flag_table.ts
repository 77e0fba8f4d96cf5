/** Every flag of the command. Parsing, checking, `--help` and docs/flags.md are made from this table. */

import type { Flag } from "./flag.ts";
import {
  bucket,
  bytes,
  choice,
  generationFields,
  integer,
  jsonObject,
  rootPath,
  seconds,
  supported,
  words,
} from "./flag_values.ts";
import { IDLE_FLAGS } from "./idle_flags.ts";
import { IDLE_LATER_FLAGS } from "./idle_later_flags.ts";
import { REFUSED_FLAGS } from "./refused_flags.ts";

const MODEL: readonly Flag[] = [
  {
    name: "revision",
    group: "Model",
    value: "NAME",
    standard: "main",
    help: "branch, tag or commit of a hub model",
    option: "revision",
  },
  {
    name: "task",
    group: "Model",
    value: "auto|generate|embed|score|classify",
    standard: "auto",
    help: "what the model is for; auto is what its files say. embed pools the hidden states of a " +
      "generative model, score makes a reranker of one that answers yes and no",
    read: choice("auto", "generate", "embed", "score", "classify"),
    option: "task",
  },
  {
    name: "max-model-len",
    group: "Model",
    value: "TOKENS",
    standard: "the model's, or what the KV pool holds",
    help: "longest context, prompt and answer together",
    read: integer(1),
    option: "maxModelLength",
  },
  {
    name: "tokenizer-mode",
    group: "Model",
    value: "auto|slow",
    standard: "auto",
    help: "which package cuts texts: auto is the small one; slow is that of " +
      "@huggingface/transformers, which npm fetches then and which needs --allow-ffi",
    read: choice("auto", "slow"),
    option: "tokenizerMode",
  },
  {
    name: "chat-template",
    group: "Model",
    value: "FILE|TEXT",
    help: "a chat template that replaces the model's own: a file, or the template itself, which " +
      "has a brace or a line break in it",
    option: "chatTemplate",
  },
  {
    name: "chat-template-content-format",
    group: "Model",
    value: "auto|string|openai",
    standard: "auto",
    help:
      "how the template is given the content of a message: as one text, or as a list of parts " +
      "as in OpenAI's API; auto is whichever the template reads",
    read: choice("auto", "string", "openai"),
    option: "chatTemplateContentFormat",
  },
  {
    name: "generation-config",
    group: "Model",
    value: "auto|vllm|none|FOLDER",
    standard: "auto",
    help:
      "where sampling defaults come from: auto is the model's generation_config.json, vllm and " +
      "none leave it out, and a folder has one in place of the model's; its max_new_tokens is " +
      "then the most that a request gets",
    option: "generationConfig",
  },
  {
    name: "override-generation-config",
    group: "Model",
    value: "JSON",
    help: "sampling defaults that win over those of --generation-config, such as " +
      '{"temperature": 0.5}: temperature, top_p, top_k, min_p, repetition_penalty and ' +
      "max_new_tokens, which is then the most that a request gets",
    read: generationFields,
    isJson: true,
    option: "overrideGenerationConfig",
  },
];

const SERVER: readonly Flag[] = [
  {
    name: "host",
    group: "Server",
    value: "ADDRESS",
    standard: "0.0.0.0",
    help: "address to listen on",
  },
  {
    name: "port",
    group: "Server",
    value: "NUMBER",
    standard: "8000",
    help: "port to listen on; 0 takes any free one",
    read: integer(0, 65535),
  },
  {
    name: "uds",
    group: "Server",
    value: "PATH",
    help: "Unix socket to listen on, in place of --host and --port; it is removed at the end",
  },
  {
    name: "served-model-name",
    group: "Server",
    value: "NAME",
    standard: "MODEL as it was given",
    help: "name the model answers to; the first of several is written into answers",
    several: true,
  },
  {
    name: "strict-model",
    group: "Server",
    help: "answer a request that names another model with 404; otherwise any name will do",
  },
  {
    name: "api-key",
    group: "Server",
    value: "KEY",
    standard: "VLLM_API_KEY of the environment, else none",
    help: "key a client must send as a bearer token; any of several will do",
    several: true,
    mayBeEmpty: true,
  },
  {
    name: "root-path",
    group: "Server",
    value: "PATH",
    help:
      "path that a proxy puts before those of the API, such as /llm; requests work with it and " +
      "without it",
    read: rootPath,
  },
  {
    name: "shutdown-timeout",
    group: "Server",
    value: "SECONDS",
    standard: "30",
    help: "how long open requests may go on after Ctrl-C; 0 ends them at once",
    read: seconds,
  },
  {
    name: "ssl-certfile",
    group: "HTTPS and web pages",
    value: "FILE",
    help: "certificate, and those of its issuers, as PEM: the server speaks HTTPS",
  },
  {
    name: "ssl-keyfile",
    group: "HTTPS and web pages",
    value: "FILE",
    standard: "the file of --ssl-certfile",
    help: "private key of the certificate, as PEM",
  },
  {
    name: "allowed-origins",
    group: "HTTPS and web pages",
    value: "LIST",
    standard: '["*"]',
    help: "web origins whose pages may read answers: a JSON list, or names with commas",
    isJson: true,
    read: words("https://example.org"),
  },
  {
    name: "allowed-methods",
    group: "HTTPS and web pages",
    value: "LIST",
    standard: '["*"]',
    help: "HTTP methods that pages of other origins may use",
    isJson: true,
    read: words("POST"),
  },
  {
    name: "allowed-headers",
    group: "HTTPS and web pages",
    value: "LIST",
    standard: '["*"]',
    help: "headers that pages of other origins may send",
    isJson: true,
    read: words("authorization"),
  },
  {
    name: "allow-credentials",
    group: "HTTPS and web pages",
    help: "let pages of other origins send cookies",
  },
];

const REQUESTS: readonly Flag[] = [
  {
    name: "response-role",
    group: "Requests",
    value: "ROLE",
    standard: "assistant",
    help: "role of the answers of a chat; many clients take no other than assistant",
  },
  {
    name: "default-chat-template-kwargs",
    group: "Requests",
    value: "JSON",
    help: "variables of the chat template where a request does not set them, such as " +
      '{"enable_thinking": false}',
    isJson: true,
    read: jsonObject('{"enable_thinking": false}'),
  },
  {
    name: "trust-request-chat-template",
    group: "Requests",
    help: "let requests bring their own chat template",
  },
  {
    name: "max-logprobs",
    group: "Requests",
    value: "COUNT",
    standard: "20",
    help: "most log-probabilities a request may ask for a token; -1 for any number",
    read: integer(-1),
  },
  {
    name: "stream-interval",
    group: "Requests",
    value: "TOKENS",
    standard: "1",
    help: "tokens a chunk of a stream where a request does not say; the first and the last one " +
      "come at once",
    read: integer(1),
  },
  {
    name: "return-tokens-as-token-ids",
    group: "Requests",
    help: "write tokens of log-probabilities as token_id:ID where a request does not choose",
  },
  {
    name: "enable-force-include-usage",
    group: "Requests",
    help: "end every stream with its token counts, also where a request does not ask for them",
  },
  {
    name: "enable-request-id-headers",
    group: "Requests",
    help:
      "give every answer an X-Request-Id header; without the flag only those whose request had " +
      "one",
  },
  {
    name: "fingerprint-mode",
    group: "Requests",
    value: "full|hash|none",
    standard: "full",
    help: "what system_fingerprint says: the version and the model's hash, the hash alone, or null",
    read: supported(["full", "hash", "none"], ["custom"]),
  },
  {
    name: "max-waiting-requests",
    group: "Requests",
    value: "COUNT",
    standard: "1024",
    help: "requests that may wait; one more is answered 503",
    read: integer(1),
    option: "maxWaitingRequests",
  },
  {
    name: "disable-fastapi-docs",
    group: "Requests",
    help: "close /openapi.json, the document that describes the API",
  },
  {
    name: "dev-mode",
    group: "Requests",
    help: "open the routes that are for development: /reset_prefix_cache; so do " +
      "VLLM_SERVER_DEV_MODE=1 and FURIOSA_SERVER_DEV_MODE=1",
  },
];

const LOGS: readonly Flag[] = [
  {
    name: "log-level",
    group: "Logs",
    value: "trace|debug|info|warning|error|critical",
    standard: "info",
    help: "least important lines to write; at warning and above, of the requests only those are " +
      "written that were answered with an error",
    aliases: ["--uvicorn-log-level"],
    read: choice("trace", "debug", "info", "warning", "error", "critical"),
  },
  {
    name: "disable-uvicorn-access-log",
    group: "Logs",
    help: "do not write a line for each request: who, method, path, status",
  },
  {
    name: "disable-access-log-for-endpoints",
    group: "Logs",
    value: "LIST",
    help: "paths whose requests get no such line, with commas between them: /health,/metrics",
    isJson: true,
    read: words("/health"),
  },
  {
    name: "disable-log-stats",
    group: "Logs",
    help: "do not write a line of statistics every ten seconds while there is work",
  },
  {
    name: "enable-log-requests",
    group: "Logs",
    help:
      "write a line for each request to the model, with its id and parameters; at --log-level " +
      "debug also its prompt",
  },
  {
    name: "max-log-len",
    group: "Logs",
    value: "COUNT",
    standard: "no limit",
    help: "most characters of a prompt, and of parameters, in such a line",
    read: integer(0),
  },
  {
    name: "enable-payload-logging",
    group: "Logs",
    help: "write one line of JSON for each request to standard output, with its body and its " +
      "status, in place of the line for each request; headers are never written",
  },
];

const MEMORY: readonly Flag[] = [
  {
    name: "kv-cache-bytes",
    group: "Memory and batching",
    value: "SIZE",
    standard: "512MiB, or less if the context needs less",
    help: "memory for keys and values, such as 512M or 1GiB (M and MiB are 2^20, MB is 10^6)",
    read: bytes,
    option: "kvCacheBytes",
  },
  {
    name: "dtype",
    group: "Memory and batching",
    value: "auto|float32|bfloat16|float16|q8|q4",
    standard: "auto",
    help: "how weights are stored; auto is as the checkpoint stores them",
    read: choice("auto", "float32", "bfloat16", "float16", "q8", "q4"),
    option: "dtype",
  },
  {
    name: "activation-dtype",
    group: "Memory and batching",
    value: "float32|int16|int8",
    standard: "float32",
    help: "how activations meet quantised weights; integers are faster and less exact",
    read: choice("float32", "int16", "int8"),
    option: "activationDtype",
  },
  {
    name: "expected-average-length",
    group: "Memory and batching",
    value: "TOKENS",
    standard: "EXPECTED_AVERAGE_SEQ_LENGTH of the environment, else 1024",
    help: "length of an average sequence, prompt and answer: it divides the memory for keys and " +
      "values between layers that see everything and layers with a window",
    read: integer(1),
    option: "expectedAverageLength",
  },
  {
    name: "kv-cache-dtype",
    group: "Memory and batching",
    value: "bfloat16|float32",
    standard: "bfloat16",
    help: "how keys and values are stored; auto is bfloat16",
    read: choice("bfloat16", "float32", "auto"),
    option: "kvCacheDtype",
  },
  {
    name: "enable-prefix-caching",
    group: "Memory and batching",
    standard: "on",
    help: "reuse keys and values of shared prompt beginnings",
    option: "enablePrefixCaching",
  },
  {
    name: "max-batch-size",
    group: "Memory and batching",
    value: "COUNT",
    standard: "64",
    help: "most sequences that run in one step",
    aliases: ["--max-num-seqs", "--max-concurrency"],
    read: integer(1),
    option: "maxBatchSize",
  },
  {
    name: "max-num-batched-tokens",
    group: "Memory and batching",
    value: "TOKENS",
    standard: "512",
    help: "most tokens in one step; longer prompts are read in chunks",
    read: integer(1),
    option: "maxTokensPerStep",
  },
  {
    name: "prefill-buckets",
    group: "Memory and batching",
    value: "BATCH,LENGTH",
    standard: "a table made for the limits",
    help: "shape that steps of whole prompts are compiled for, such as 1,512",
    aliases: ["-pb"],
    several: true,
    read: bucket,
    option: "prefillBuckets",
  },
  {
    name: "decode-buckets",
    group: "Memory and batching",
    value: "BATCH,LENGTH",
    standard: "a table made for the limits",
    help: "shape that steps of one token a sequence are compiled for, such as 4,1024",
    aliases: ["-db"],
    several: true,
    read: bucket,
    option: "decodeBuckets",
  },
  {
    name: "threads",
    group: "Memory and batching",
    value: "COUNT",
    standard: "the machine's cores, at most 8",
    help: "worker threads, one a processing element; 0 computes on the main thread",
    read: integer(0),
    option: "threads",
  },
];

const OTHER: readonly Flag[] = [
  {
    name: "config",
    group: "Other",
    value: "FILE",
    help:
      "YAML file of flags: their names without dashes, and their values; what the command line " +
      "says wins. It may name the model too",
  },
  {
    name: "unsafe-fast",
    group: "Other",
    help:
      "restart with two experimental flags of V8 that make prompts faster (1.7 times where it " +
      "was measured); gives up the bounds checks of WebAssembly memory accesses, so that a mistake " +
      "in a kernel can corrupt the process: for performance testing",
  },
  {
    name: "dry-run",
    group: "Other",
    help:
      "load and serve nothing: show what the model would take on the device, as these flags have " +
      "it; exit code 1 if it does not fit",
  },
  { name: "help", group: "Other", help: "show this text", aliases: ["-h"] },
  { name: "version", group: "Other", help: "show the version" },
];

/** Every flag, in the order of the help. */
export const FLAGS: readonly Flag[] = [
  ...MODEL,
  ...SERVER,
  ...REQUESTS,
  ...LOGS,
  ...MEMORY,
  ...OTHER,
  ...IDLE_FLAGS,
  ...IDLE_LATER_FLAGS,
  ...REFUSED_FLAGS,
];

/** The flag that sets an option of `LLM.load`. */
export function flagOfOption(option: string): Flag | undefined {
  return FLAGS.find((flag) => flag.option === option);
}

/** The flag of a name without dashes in front, whichever of its names that is. */
export function flagNamed(name: string): Flag | undefined {
  return FLAGS.find((flag) =>
    flag.name === name || flag.aliases?.some((alias) => alias.replace(/^-+/, "") === name)
  );
}
