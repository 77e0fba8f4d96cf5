/** The command's flags: one table, from which parsing, checking and `--help` come. */

import { parseArgs } from "@std/cli/parse-args";
import type { LLMOptions } from "../mod.ts";
import { nearest } from "./nearest.ts";

/** One row of the table. */
export interface Flag {
  /** Without dashes. */
  readonly name: string;
  readonly group: "Model" | "Server" | "Requests" | "Memory and batching" | "Other";
  readonly help: string;
  /** What its value is called in the help; a flag without one is a switch. */
  readonly value?: string;
  /** Shown as the default. */
  readonly standard?: string;
  /** May be given several times. */
  readonly several?: boolean;
  /** `--no-<name>` exists. */
  readonly negatable?: boolean;
  /** Another name of the same flag. */
  readonly alias?: string;
  /** Text → value; throws a RangeError that says what would be right. */
  readonly read?: (text: string) => unknown;
  /** The option of `LLM.load` that the value goes to. */
  readonly option?: keyof LLMOptions;
}

/** Every flag, in the order of the help. */
export const FLAGS: readonly Flag[] = [
  {
    name: "revision",
    group: "Model",
    value: "NAME",
    standard: "main",
    help: "branch, tag or commit of a hub model",
    option: "revision",
  },
  {
    name: "chat-template",
    group: "Model",
    value: "FILE|TEXT",
    help: "a chat template that replaces the model's own: a file, or the template itself",
    option: "chatTemplate",
  },
  {
    name: "generation-config",
    group: "Model",
    value: "auto|vllm|none",
    standard: "auto",
    help: "whether generation_config.json gives sampling defaults; vllm and none ignore it",
    read: choice("auto", "vllm", "none"),
    option: "generationConfig",
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
    name: "served-model-name",
    group: "Server",
    value: "NAME",
    standard: "MODEL as it was given",
    help: "name the model answers to; the first of several is written into answers",
    several: true,
  },
  {
    name: "api-key",
    group: "Server",
    value: "KEY",
    help: "key a client must send as a bearer token; any of several will do",
    several: true,
  },
  {
    name: "allowed-origins",
    group: "Server",
    value: "LIST",
    standard: '["*"]',
    help: "web origins whose pages may read answers: a JSON list, or names with commas",
    read: origins,
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
    name: "disable-log-stats",
    group: "Server",
    help: "do not write a line of statistics every ten seconds while there is work",
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
    name: "max-waiting-requests",
    group: "Requests",
    value: "COUNT",
    standard: "1024",
    help: "requests that may wait; one more is answered 503",
    read: integer(0),
    option: "maxWaitingRequests",
  },
  {
    name: "trust-request-chat-template",
    group: "Requests",
    help: "let requests bring their own chat template",
  },
  {
    name: "dev-mode",
    group: "Requests",
    help: "open the routes that are for development: /reset_prefix_cache; so does " +
      "VLLM_SERVER_DEV_MODE=1",
  },
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
    negatable: true,
    option: "enablePrefixCaching",
  },
  {
    name: "max-batch-size",
    group: "Memory and batching",
    value: "COUNT",
    standard: "64",
    help: "most sequences that run in one step",
    alias: "max-num-seqs",
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
    name: "threads",
    group: "Memory and batching",
    value: "COUNT",
    standard: "the machine's cores, at most 8",
    help: "worker threads, one a processing element; 0 computes on the main thread",
    read: integer(0),
    option: "threads",
  },
  {
    name: "unsafe-fast",
    group: "Other",
    help:
      "restart with two experimental flags of V8 that make prompts faster (1.7 times where it " +
      "was measured); gives up the bounds checks of WebAssembly memory accesses, so that a mistake " +
      "in a kernel can corrupt the process: for performance testing",
  },
  { name: "help", group: "Other", help: "show this text", alias: "h" },
  { name: "version", group: "Other", help: "show the version" },
];

/** What a command line asks for. */
export type Command =
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  /** A mistake; the message is one line. */
  | { readonly kind: "wrong"; readonly message: string }
  | { readonly kind: "serve"; readonly model: string | undefined; readonly values: FlagValues };

/** The value of each flag that was given, by its name without dashes. */
export type FlagValues = Readonly<Record<string, unknown>>;

/** A mistake on the command line. */
class FlagError extends Error {
  override name = "FlagError";
}

/** Reads a command line. A leading word `serve` is skipped, so that habits of others work. */
export function readCommand(args: readonly string[]): Command {
  try {
    return parse(spread(args[0] === "serve" ? args.slice(1) : args));
  } catch (error) {
    if (error instanceof FlagError) return { kind: "wrong", message: error.message };
    throw error;
  }
}

/** The flag that sets an option of `LLM.load`. */
export function flagOfOption(option: string): Flag | undefined {
  return FLAGS.find((flag) => flag.option === option);
}

function parse(args: readonly string[]): Command {
  const names = (rows: readonly Flag[]): string[] => rows.map((flag) => flag.name);
  const parsed = parseArgs(args, {
    string: ["_", ...names(FLAGS.filter((flag) => flag.value !== undefined))],
    boolean: names(FLAGS.filter((flag) => flag.value === undefined && !flag.negatable)),
    collect: names(FLAGS.filter((flag) => flag.several)),
    negatable: names(FLAGS.filter((flag) => flag.negatable)),
    alias: Object.fromEntries(
      FLAGS.flatMap((flag) => flag.alias === undefined ? [] : [[flag.name, flag.alias]]),
    ),
    unknown(word: string, key?: string) {
      if (key !== undefined) throw unknownFlag(word);
    },
  }) as Readonly<Record<string, unknown>>;
  if (parsed["help"]) return { kind: "help" };
  if (parsed["version"]) return { kind: "version" };
  const [model, extra] = parsed["_"] as string[];
  if (extra !== undefined) {
    throw new FlagError(`Unexpected word "${extra}": one MODEL is enough, flags begin with --`);
  }
  const given = FLAGS.map((flag) => [flag.name, valueOf(flag, parsed[flag.name])] as const);
  return {
    kind: "serve",
    model,
    values: Object.fromEntries(given.filter(([, value]) => value !== undefined)),
  };
}

function valueOf(flag: Flag, value: unknown): unknown {
  if (value === undefined || value === false && !flag.negatable) return undefined;
  if (flag.negatable && typeof value !== "boolean") {
    if (value === "true" || value === "false") return value === "true";
    throw new FlagError(`Cannot use --${flag.name} "${value}": it is a switch and takes no value`);
  }
  if (flag.several) {
    const items = value as readonly string[];
    if (items.includes("") && flag.name !== "api-key") throw missingValue(flag);
    return items.length === 0 ? undefined : items;
  }
  if (flag.value === undefined) return value;
  if (value === "") throw missingValue(flag);
  if (flag.read === undefined) return value;
  try {
    return flag.read(value as string);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new FlagError(`Cannot use --${flag.name} "${value}": ${error.message}`);
  }
}

function missingValue(flag: Flag): FlagError {
  return new FlagError(`Cannot use --${flag.name} without a value: it takes ${flag.value}`);
}

function unknownFlag(word: string): FlagError {
  const flag = word.split("=", 1)[0] as string;
  const known = FLAGS.flatMap(({ name, alias, negatable }) => [
    `--${name}`,
    ...(alias !== undefined && alias.length > 1 ? [`--${alias}`] : []),
    ...(negatable ? [`--no-${name}`] : []),
  ]);
  const negative = flag.startsWith("--no-") ? known.filter((name) => name.startsWith("--no-")) : [];
  const guess = nearest(flag, negative) ?? nearest(flag, known);
  const hint = guess === undefined ? "--help lists the flags" : `did you mean ${guess}?`;
  return new FlagError(`Unknown flag ${flag}: ${hint}`);
}

/**
 * Brings spellings of others into one form: `--max_model_len` becomes `--max-model-len`; and once
 * MODEL was seen, the words after a flag that may come several times are all values of that flag.
 */
function spread(args: readonly string[]): string[] {
  const result: string[] = [];
  let hasModel = false;
  let current: Flag | undefined; // the flag the last words belong to
  let hasValue = false;
  for (const [index, arg] of args.entries()) {
    if (arg === "--") return [...result, ...args.slice(index)];
    if (arg.startsWith("--")) {
      const [name = "", ...value] = arg.split("=");
      const spelled = name.replaceAll("_", "-");
      result.push([spelled, ...value].join("="));
      current = FLAGS.find((flag) => [flag.name, flag.alias].includes(spelled.slice(2)));
      hasValue = value.length > 0 || current?.value === undefined;
    } else if (arg.startsWith("-") && (hasValue || current === undefined)) {
      result.push(arg);
    } else if (current !== undefined && !hasValue) {
      result[result.length - 1] += `=${arg}`; // so that a value may begin with a dash
      hasValue = true;
    } else if (current?.several && hasModel) {
      result.push(`--${current.name}=${arg}`);
    } else {
      result.push(arg);
      hasModel = true;
    }
  }
  return result;
}

function integer(least: number, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  const right = most === Number.MAX_SAFE_INTEGER
    ? `it must be an integer of at least ${least}`
    : `it must be an integer from ${least} to ${most}`;
  return (text) => {
    const value = /^-?\d+$/.test(text) ? Number(text) : NaN;
    if (!(value >= least && value <= most)) throw new RangeError(right);
    return value;
  };
}

function seconds(text: string): number {
  const value = /^\d+(\.\d+)?$/.test(text) ? Number(text) : NaN;
  if (!(value <= 86_400)) throw new RangeError("it must be a number of seconds, such as 30");
  return value;
}

function choice(...words: readonly string[]): (text: string) => string {
  return (text) => {
    if (!words.includes(text)) throw new RangeError(`it must be ${words.join(" or ")}`);
    return text;
  };
}

function bytes(text: string): number {
  const match = /^(\d+(?:\.\d+)?) ?(?:([kmgt])(i?b)?|b)?$/i.exec(text);
  const [, digits, prefix, suffix] = match ?? [];
  const base = suffix?.toLowerCase() === "b" ? 1000 : 1024;
  const power = prefix === undefined ? 0 : 1 + "kmgt".indexOf(prefix.toLowerCase());
  const value = Math.round(Number(digits) * base ** power);
  if (!(value >= 1 && Number.isSafeInteger(value))) {
    throw new RangeError("it must be a size, such as 536870912, 512M or 1GiB");
  }
  return value;
}

function origins(text: string): readonly string[] {
  if (!text.trimStart().startsWith("[")) return text.split(",").map((origin) => origin.trim());
  try {
    const list: unknown = JSON.parse(text);
    if (Array.isArray(list) && list.every((item) => typeof item === "string")) return list;
  } catch {
    // not JSON: the same answer as for JSON of another shape
  }
  throw new RangeError(`it must be a JSON list of strings, such as ["https://example.org"]`);
}
