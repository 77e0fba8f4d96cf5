/** `add_bos_token` and `add_eos_token` of a tokenizer_config.json, where they count. */

import { CheckpointError } from "../base/errors.ts";
import { framePostProcessor, type FrameToken } from "./tokenizer_json.ts";

/** The classes that write the post-processor of tokenizer.json anew from these settings. */
const CLASSES = /^(?:Llama|CodeLlama|Gemma|Mistral)Tokenizer(?:Fast)?$/;

/**
 * The post-processor that the settings ask for; undefined where tokenizer.json's own holds: for all
 * other classes, and where neither setting is there.
 */
export function configuredPostProcessor(
  config: Readonly<Record<string, unknown>>,
  idOf: (token: string) => number | undefined,
  file: string,
): unknown {
  const { tokenizer_class: name, add_bos_token: begins, add_eos_token: ends } = config;
  if (typeof name !== "string" || !CLASSES.test(name)) return undefined;
  const isSet = (value: unknown) => value !== undefined && value !== null;
  if (!isSet(begins) && !isSet(ends)) return undefined;
  const token = (setting: string, role: string, standard: boolean): FrameToken | undefined => {
    const wanted = isSet(config[setting]) ? config[setting] : standard;
    if (typeof wanted !== "boolean") {
      fail(`"${setting}" is ${JSON.stringify(wanted)}: it must be true or false`);
    }
    if (!wanted) return undefined;
    const value = config[role];
    const text = typeof value === "object" && value !== null
      ? (value as { readonly content?: unknown }).content
      : value;
    const id = typeof text === "string" ? idOf(text) : undefined;
    if (id === undefined) {
      fail(`"${setting}" is true, but "${role}" is ${JSON.stringify(value)}, which is no token`);
    }
    return { id, text: text as string };
  };
  return framePostProcessor({
    begin: token("add_bos_token", "bos_token", true),
    end: token("add_eos_token", "eos_token", false),
    pair: "twice",
  });

  function fail(problem: string): never {
    throw new CheckpointError(
      file,
      `Cannot read the tokenizer of "${file}": in its configuration ${problem}`,
    );
  }
}
