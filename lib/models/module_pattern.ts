/** How a quantization_config points at modules: by name, by class, or by a regular expression. */

import { isExponential } from "../base/regex_ambiguity.ts";

/** One entry of a list of targets, or of a list of what is left out. */
export interface ModulePattern {
  /** As the file has it. */
  readonly text: string;
  /** Whether one of a module's names is meant. A class is compared by `text`. */
  matches(names: readonly string[]): boolean;
}

const TEXT_LENGTH_MAX = 500;
/** Names are short, so that as many repetitions side by side take no time. */
const REPEAT_COUNT_MAX = 4;

/** Reads an entry; undefined if it is a pattern that cannot be searched for, or not in good time. */
export function modulePattern(text: string): ModulePattern | undefined {
  if (!text.startsWith("re:")) {
    return {
      text,
      matches: (names) => names.some((name) => name === text || name.endsWith(`.${text}`)),
    };
  }
  const pattern = compile(text.slice("re:".length));
  return pattern && { text, matches: (names) => names.some((name) => pattern.test(name)) };
}

/** Python's re.match: the pattern begins where the name begins, and need not end where it ends. */
function compile(source: string): RegExp | undefined {
  const repeats = source.match(/[*+]|\{\d*,\d*\}/gu) ?? [];
  if (source.length > TEXT_LENGTH_MAX || repeats.length > REPEAT_COUNT_MAX) return undefined;
  if (isExponential(source)) return undefined;
  try {
    return new RegExp(`^(?:${source})`, "u");
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    return undefined; // the caller refuses it by name
  }
}
