/**
 * Splitting, in the two ways in which the package does it right.
 *
 * The format has five ways to treat a match. The package cuts matches out for one of them, and for
 * the others leaves every match a piece of its own. So the pattern is made one whose matches are the
 * pieces that are asked for.
 */

import type { Component, Pattern } from "./tokenizer_component.ts";

const ANY = "[\\s\\S]";

/** What becomes of a match. */
export type SplitBehavior =
  | "Isolated"
  | "Removed"
  | "MergedWithPrevious"
  | "MergedWithNext"
  | "Contiguous";

const BEHAVIORS: readonly SplitBehavior[] = [
  "Isolated",
  "Removed",
  "MergedWithPrevious",
  "MergedWithNext",
  "Contiguous",
];

/** Reads `behavior`; files of all times spell it with capitals or without. */
export function readBehavior(component: Component, fallback?: SplitBehavior): SplitBehavior {
  const name = component.string("behavior", fallback);
  return BEHAVIORS.find((behavior) => behavior.toLowerCase() === name.toLowerCase()) ??
    component.fail("behavior", `it must be one of ${BEHAVIORS.join(", ")}`);
}

/** A "Split" of the package that cuts as the format's would. */
export function splitRule(pattern: Pattern, behavior: SplitBehavior): unknown {
  const source = "String" in pattern ? escapePattern(pattern.String) : pattern.Regex;
  const rule = (Regex: string) => ({
    type: "Split",
    pattern: { Regex },
    behavior: "Isolated",
    invert: false,
  });
  switch (behavior) {
    case "Isolated":
      return rule(source);
    case "Removed":
      return { ...rule(withoutCaptures(source)), behavior: "Removed" };
    case "MergedWithPrevious":
      return rule(`${ANY}*?(?:${source})|${ANY}+`);
    case "MergedWithNext":
      return rule(`(?:${source})(?:(?!${source})${ANY})*|(?:(?!${source})${ANY})+`);
    case "Contiguous":
      return rule(`(?:${source})+`);
    default:
      return behavior satisfies never;
  }
}

/** A "Split" of the package whose matches are the pieces, and the rest is left out. */
export function matchRule(Regex: string): unknown {
  return { type: "Split", pattern: { Regex }, behavior: "Removed", invert: true };
}

/** A text as a pattern that finds it. */
export function escapePattern(text: string): string {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** What a group captures would be put among the pieces. */
function withoutCaptures(source: string): string {
  let result = "";
  let depth = 0; // of brackets
  for (let at = 0; at < source.length; at++) {
    const char = source[at]!;
    if (char === "\\") {
      result += char + (source[++at] ?? "");
      continue;
    }
    if (char === "[") depth++;
    else if (char === "]" && depth > 0) depth--;
    result += char;
    if (char === "(" && depth === 0 && source[at + 1] !== "?") result += "?:";
  }
  return result;
}
