/** What one flag of the command is: a row of the table. */

import type { LLMOptions } from "../mod.ts";

/** The groups of the help, in its order. */
export const GROUPS = [
  "Model",
  "Server",
  "HTTPS and web pages",
  "Requests",
  "Logs",
  "Memory and batching",
  "Other",
  "Accepted, without effect here",
  "Not supported yet",
] as const;

/** The group of flags that are checked, and then do nothing. */
export const IDLE_GROUP = "Accepted, without effect here";

/** One row of the table. */
export interface Flag {
  /** Without dashes. */
  readonly name: string;
  readonly group: typeof GROUPS[number];
  /** What it does; of a flag without effect, why it has none. */
  readonly help: string;
  /** What its value is called in the help; a flag without one is a switch. */
  readonly value?: string;
  /** Shown as the default. */
  readonly standard?: string;
  /** May be given several times, and with several words behind it. */
  readonly several?: boolean;
  /** The empty text is a value too. */
  readonly mayBeEmpty?: boolean;
  /** Other names of the same flag, with their dashes. */
  readonly aliases?: readonly string[];
  /** The value is JSON, which a file of flags may write as YAML. */
  readonly isJson?: boolean;
  /** Text → value; throws a RangeError that says what would be right. */
  readonly read?: (text: string) => unknown;
  /** The option of `LLM.load` that the value goes to. */
  readonly option?: keyof LLMOptions;
}

/** The flag is checked, and then does nothing. */
export function isIdle(flag: Flag): boolean {
  return flag.group === IDLE_GROUP;
}

/** The flag is known, and refused. */
export function isRefused(flag: Flag): boolean {
  return flag.group === "Not supported yet";
}

/** A switch is on or off; every other flag takes a value. */
export function isSwitch(flag: Flag): boolean {
  return flag.value === undefined;
}

/** The value of each flag that was given, by its name without dashes. */
export type FlagValues = Readonly<Record<string, unknown>>;
