/** Flag values → the options of the model, the handler and the server. */

import type { LLMOptions } from "../mod.ts";
import { type FlagValues, isIdle } from "./flag.ts";
import { FLAGS } from "./flag_table.ts";
import { integer } from "./flag_values.ts";
import type { LogLevel } from "./terminal.ts";
import { unreadable } from "./unreadable.ts";

/** The options of the HTTP handler that flags can set. */
export interface RequestSettings {
  readonly servedModelNames?: readonly string[];
  readonly strictModel: boolean;
  readonly apiKeys: readonly string[];
  readonly allowedOrigins: readonly string[];
  readonly allowedMethods: readonly string[];
  readonly allowedHeaders: readonly string[];
  readonly allowCredentials: boolean;
  readonly rootPath: string;
  readonly requestIdHeaders: boolean;
  readonly responseRole: string;
  readonly defaultChatTemplateKwargs: Readonly<Record<string, unknown>>;
  readonly forceIncludeUsage: boolean;
  readonly returnTokensAsTokenIds: boolean;
  readonly maxLogprobs: number;
  readonly streamInterval: number;
  readonly fingerprintMode: "full" | "hash" | "none";
  readonly trustRequestChatTemplate: boolean;
  readonly devMode: boolean;
  readonly apiDocument: boolean;
}

/** What is written of the requests, and of how the model is doing. */
export interface LogSettings {
  readonly level: LogLevel;
  /** A line for each answer. */
  readonly access: boolean;
  /** Paths whose answers get none. */
  readonly accessExcept: readonly string[];
  /** A line for each request to the model. */
  readonly requests: boolean;
  /** Most characters of a prompt, and of parameters, in it. */
  readonly lengthMax: number;
  /** A line of JSON for each request on standard output. */
  readonly payloads: boolean;
  /** A line of statistics every ten seconds. */
  readonly statistics: boolean;
}

/** Where the server listens: a port, with TLS if there is a certificate, or a Unix socket. */
export type Listening =
  | {
    readonly kind: "port";
    readonly hostname: string;
    readonly port: number;
    readonly tls: { readonly cert: string; readonly key: string } | undefined;
  }
  | { readonly kind: "socket"; readonly path: string };

/** Everything the command does as its flags say. */
export interface ServeSettings {
  readonly listening: Listening;
  readonly shutdownTimeoutSeconds: number;
  /** Show what the model would take, and end. */
  readonly dryRun: boolean;
  /** In a process without the bounds checks of WebAssembly. */
  readonly unsafeFast: boolean;
  readonly requests: RequestSettings;
  readonly logs: LogSettings;
  readonly llm: LLMOptions;
  /** Flags that were given and do nothing here, with their dashes. */
  readonly idleFlags: readonly string[];
}

/** The part of the environment that counts, as `Deno.env` has it. */
export type Environment = Pick<Deno.Env, "get">;

/**
 * Fills in defaults, and reads the files that were named: chat template, certificate and key.
 *
 * @throws {RangeError} a file cannot be read, or flags do not go together; the message is one line
 */
export async function toSettings(
  values: FlagValues,
  environment: Environment = Deno.env,
): Promise<ServeSettings> {
  const isOn = (name: string) => values[name] === true;
  const get = <Value>(name: string, standard: Value) => values[name] as Value ?? standard;
  const names = get<readonly string[] | undefined>("served-model-name", undefined);
  return {
    listening: await listening(values),
    shutdownTimeoutSeconds: get("shutdown-timeout", 30),
    dryRun: isOn("dry-run"),
    unsafeFast: isOn("unsafe-fast"),
    requests: {
      strictModel: isOn("strict-model"),
      apiKeys: get("api-key", [environment.get("VLLM_API_KEY") ?? ""]).filter((key) => key !== ""),
      allowedOrigins: get("allowed-origins", ["*"]),
      allowedMethods: get("allowed-methods", ["*"]),
      allowedHeaders: get("allowed-headers", ["*"]),
      allowCredentials: isOn("allow-credentials"),
      rootPath: get("root-path", ""),
      requestIdHeaders: isOn("enable-request-id-headers"),
      responseRole: get("response-role", "assistant"),
      defaultChatTemplateKwargs: get("default-chat-template-kwargs", {}),
      forceIncludeUsage: isOn("enable-force-include-usage"),
      returnTokensAsTokenIds: isOn("return-tokens-as-token-ids"),
      maxLogprobs: get("max-logprobs", 20),
      streamInterval: get("stream-interval", 1),
      fingerprintMode: get("fingerprint-mode", "full"),
      trustRequestChatTemplate: isOn("trust-request-chat-template"),
      devMode: isOn("dev-mode") || isDevMode(environment),
      apiDocument: !isOn("disable-fastapi-docs"),
      ...(names === undefined ? {} : { servedModelNames: names }),
    },
    logs: {
      level: get("log-level", "info"),
      access: !isOn("disable-uvicorn-access-log") && !isOn("enable-payload-logging"),
      accessExcept: get("disable-access-log-for-endpoints", []),
      requests: isOn("enable-log-requests"),
      lengthMax: get("max-log-len", Infinity),
      payloads: isOn("enable-payload-logging"),
      statistics: !isOn("disable-log-stats"),
    },
    llm: await llmOptions(values, environment),
    idleFlags: FLAGS.filter((flag) => isIdle(flag) && values[flag.name] !== undefined)
      .map(({ name }) => `--${name}`),
  };
}

function isDevMode(environment: Environment): boolean {
  return environment.get("VLLM_SERVER_DEV_MODE") === "1" ||
    ["1", "true"].includes(environment.get("FURIOSA_SERVER_DEV_MODE") ?? "");
}

async function listening(values: FlagValues): Promise<Listening> {
  const path = values["uds"] as string | undefined;
  const certfile = values["ssl-certfile"] as string | undefined;
  const keyfile = values["ssl-keyfile"] as string | undefined ?? certfile;
  if (path !== undefined && certfile !== undefined) {
    throw new RangeError("Cannot use --ssl-certfile with --uds: a socket file speaks plain HTTP");
  }
  if (path !== undefined) return { kind: "socket", path };
  if (keyfile !== undefined && certfile === undefined) {
    throw new RangeError("Cannot use --ssl-keyfile without --ssl-certfile: give both");
  }
  return {
    kind: "port",
    hostname: values["host"] as string | undefined ?? "0.0.0.0",
    port: values["port"] as number | undefined ?? 8000,
    tls: certfile === undefined || keyfile === undefined ? undefined : {
      cert: await readText("--ssl-certfile", certfile),
      key: await readText("--ssl-keyfile", keyfile),
    },
  };
}

async function llmOptions(values: FlagValues, environment: Environment): Promise<LLMOptions> {
  const options: Record<string, unknown> = {};
  for (const { name, option } of FLAGS) {
    if (option !== undefined && values[name] !== undefined) options[option] = values[name];
  }
  const averageLength = options["expectedAverageLength"] ?? readAverageLength(environment);
  if (averageLength !== undefined) options["expectedAverageLength"] = averageLength;
  if (options["kvCacheDtype"] === "auto") options["kvCacheDtype"] = "bfloat16";
  const template = options["chatTemplate"];
  if (typeof template === "string") options["chatTemplate"] = await readTemplate(template);
  return options;
}

/** Furiosa-LLM has no flag for it. */
function readAverageLength(environment: Environment): number | undefined {
  const text = environment.get("EXPECTED_AVERAGE_SEQ_LENGTH") ?? "";
  if (text === "") return undefined;
  try {
    return integer(1)(text);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new RangeError(
      `Cannot use EXPECTED_AVERAGE_SEQ_LENGTH "${text}" of the environment: ${error.message}`,
    );
  }
}

/** A text with a brace or a line break is a template; anything else names a file. */
async function readTemplate(text: string): Promise<string> {
  return /[{}\n]/.test(text) ? text : await readText("--chat-template", text);
}

async function readText(flag: string, path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    throw new RangeError(`Cannot use ${flag} "${path}": ${unreadable(error)}`);
  }
}
