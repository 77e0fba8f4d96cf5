/** Texts given for a flag → its value, or a mistake told in one line. */

import { type Flag, isRefused, isSwitch } from "./flag.ts";

/** A mistake on the command line, or in a file of flags. */
export class FlagError extends Error {
  override name = "FlagError";
}

/** The words for a flag as it was given, and for where: `--port "x"`. */
export interface Place {
  readonly name: string;
  /** Empty, or a clause in brackets with a space before it. */
  readonly where: string;
}

/** Checks the texts of one flag, of which there are several only if the flag takes several. */
export function flagValue(flag: Flag, texts: readonly string[], place: Place): unknown {
  const { name, where } = place;
  if (isRefused(flag)) {
    throw new FlagError(`Cannot use ${name}${where}: ${flag.help} is not supported yet`);
  }
  const values = texts.map((text) => {
    if (isSwitch(flag)) {
      if (text === "true" || text === "false") return text === "true";
      const right = where === "" ? "it is a switch and takes no value" : "it takes true or false";
      throw new FlagError(`Cannot use ${name} ${quoted(text)}${where}: ${right}`);
    }
    if (text === "" && !flag.mayBeEmpty) {
      throw new FlagError(`Cannot use ${name} without a value${where}: it takes ${flag.value}`);
    }
    try {
      return flag.read === undefined ? text : flag.read(text);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw new FlagError(`Cannot use ${name} ${quoted(text)}${where}: ${error.message}`);
    }
  });
  return flag.several ? values : values.at(-1);
}

/** A value in a message: one line, and not a whole document. */
export function quoted(text: string): string {
  const line = text.replaceAll(/\s+/g, " ");
  return `"${line.length > 100 ? `${line.slice(0, 100)}…` : line}"`;
}
