/** From the words of a command line to a checked job, or to an exit code. */

import { InvalidParameterError, ModelNotFoundError } from "../mod.ts";
import { flagOfOption, FLAGS } from "./flag_table.ts";
import { readCommand } from "./flags.ts";
import { helpText } from "./help.ts";
import { listenProblem } from "./listening.ts";
import { type ServeSettings, toSettings } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

/** What is to be served, and how. */
export interface Job {
  readonly model: string;
  readonly settings: ServeSettings;
}

/** Exit code for what cannot be done. */
export const IMPOSSIBLE = 1;
/** Exit code for a wrong flag. */
const WRONG_FLAG = 2;

/** Reads the command line. Whatever ends the command here is told, and an exit code comes back. */
export async function prepare(
  args: readonly string[],
  version: string,
  terminal: Terminal,
): Promise<Job | number> {
  const command = readCommand(args);
  if (command.kind === "help" || command.kind === "version") {
    console.log(command.kind === "help" ? helpText() : version);
    return 0;
  }
  if (command.kind === "wrong") {
    terminal.fail(command.message);
    return WRONG_FLAG;
  }
  if (command.model === undefined) {
    terminal.fail("Name a MODEL to serve: a GGUF file, a model's folder, or a hub id");
    return IMPOSSIBLE;
  }
  let settings: ServeSettings;
  try {
    settings = await toSettings(command.values);
  } catch (error) {
    // A key in an environment that may not be read must not be left out in silence.
    const isForbidden = error instanceof Deno.errors.NotCapable;
    if (!isForbidden && !(error instanceof RangeError)) throw error;
    terminal.fail(error.message);
    return isForbidden ? IMPOSSIBLE : WRONG_FLAG;
  }
  terminal.setLevel(settings.logs.level);
  // Asked before the model loads: nobody should wait for that to be told of a taken port.
  const problem = settings.dryRun ? undefined : await listenProblem(settings.listening);
  if (problem !== undefined) {
    terminal.fail(problem);
    return IMPOSSIBLE;
  }
  return { model: command.model, settings };
}

/** Words that are commands elsewhere, and what does the same here. */
const COMMANDS: ReadonlyMap<string, string> = new Map([
  ["help", "--help shows the flags"],
  ["version", "--version shows the version"],
]);

/** Tells why the model could not be loaded or served, and gives the exit code. */
export function explain(error: unknown, terminal: Terminal, model?: string): number {
  const message = error instanceof Error ? error.message : String(error);
  const isParameter = error instanceof InvalidParameterError;
  const told = isParameter && flagOfOption(error.parameter) !== undefined
    ? inFlags(message, error.parameter)
    : inFlags(message);
  const isCommand = error instanceof ModelNotFoundError && COMMANDS.has(model ?? "");
  const line = told.replaceAll(/\s*\n\s*/g, " "); // such as the text that was no JSON
  terminal.fail(isCommand ? `${line}; ${COMMANDS.get(model ?? "")}` : line);
  return told === message ? IMPOSSIBLE : WRONG_FLAG;
}

/** A message of the library in the words of the command line: options become flags. */
export function inFlags(message: string, parameter?: string): string {
  let text = message;
  for (const { name, option } of FLAGS) {
    // `task` or `threads` is a plain word too; it means the option only where the error says so.
    if (option === undefined || option !== parameter && !/[A-Z]/.test(option)) continue;
    const words = new RegExp(`"${option}"|(?<![\\w-])${option}\\b`, "g");
    text = text.replaceAll(words, `--${name}`); // a flag stands without quotes
  }
  return /--(prefill|decode)-buckets/.test(text) ? withBuckets(text) : text;
}

/** A bucket as its flags write one: BATCH,LENGTH. */
function withBuckets(message: string): string {
  return message
    .replaceAll(/\{"batchSize":(\d+),"attentionSize":(\d+)\}/g, "$1,$2")
    .replaceAll(/\bbatchSize\b/g, "BATCH")
    .replaceAll(/\battentionSize\b/g, "LENGTH");
}
