/** Flag values → the options of the model, the handler and the server. */

import type { LLMOptions } from "../mod.ts";
import { FLAGS, type FlagValues } from "./flags.ts";

/** The options of the HTTP handler that flags can set. */
export interface RequestSettings {
  readonly servedModelNames?: readonly string[];
  readonly apiKeys: readonly string[];
  readonly allowedOrigins: readonly string[];
  readonly maxLogprobs: number;
  readonly trustRequestChatTemplate: boolean;
  readonly devMode: boolean;
}

/** Everything the command does as its flags say. */
export interface ServeSettings {
  readonly hostname: string;
  readonly port: number;
  readonly shutdownTimeoutSeconds: number;
  /** A line of statistics every ten seconds. */
  readonly logsStatistics: boolean;
  /** In a process without the bounds checks of WebAssembly. */
  readonly unsafeFast: boolean;
  readonly requests: RequestSettings;
  readonly llm: LLMOptions;
}

/**
 * Fills in defaults, and reads the chat template if a file was named.
 *
 * @throws {RangeError} the template's file cannot be read; the message is one line
 */
export async function toSettings(values: FlagValues): Promise<ServeSettings> {
  const names = values["served-model-name"] as readonly string[] | undefined;
  return {
    hostname: values["host"] as string | undefined ?? "0.0.0.0",
    port: values["port"] as number | undefined ?? 8000,
    shutdownTimeoutSeconds: values["shutdown-timeout"] as number | undefined ?? 30,
    logsStatistics: values["disable-log-stats"] !== true,
    unsafeFast: values["unsafe-fast"] === true,
    requests: {
      apiKeys: values["api-key"] as readonly string[] | undefined ?? [],
      allowedOrigins: values["allowed-origins"] as readonly string[] | undefined ?? ["*"],
      maxLogprobs: values["max-logprobs"] as number | undefined ?? 20,
      trustRequestChatTemplate: values["trust-request-chat-template"] === true,
      devMode: values["dev-mode"] === true || Deno.env.get("VLLM_SERVER_DEV_MODE") === "1",
      ...(names === undefined ? {} : { servedModelNames: names }),
    },
    llm: await llmOptions(values),
  };
}

async function llmOptions(values: FlagValues): Promise<LLMOptions> {
  const options: Record<string, unknown> = {};
  for (const { name, option } of FLAGS) {
    if (option !== undefined && values[name] !== undefined) options[option] = values[name];
  }
  if (options["generationConfig"] === "vllm") options["generationConfig"] = "none";
  if (options["kvCacheDtype"] === "auto") options["kvCacheDtype"] = "bfloat16";
  const template = options["chatTemplate"];
  if (typeof template === "string") options["chatTemplate"] = await readTemplate(template);
  return options;
}

/** A text with a brace or a line break is a template; anything else names a file. */
async function readTemplate(text: string): Promise<string> {
  if (/[{}\n]/.test(text)) return text;
  try {
    return await Deno.readTextFile(text);
  } catch (error) {
    const reason = error instanceof Deno.errors.NotFound ? "there is no such file" : String(error);
    throw new RangeError(`Cannot use --chat-template "${text}": ${reason}`);
  }
}
