/**
 * A page whose snippets can be run: what it holds, and what a snippet is expected to print.
 *
 * Blocks of code mean, from top to bottom:
 *
 * - `sh` that begins with `deno task serve`: the server that the following snippets talk to
 * - `sh`, `python`, `ts`: a snippet
 * - `text` or `json` right after a snippet: what it prints, where `…` stands for anything
 *
 * Blocks with a further word, such as `sh ignore`, are for readers only.
 */

/** The languages of snippets. */
export type Language = "sh" | "python" | "ts";

/** A server, and what is asked of it. */
export interface Section {
  /** The words after `deno task serve`. */
  readonly serve: readonly string[];
  readonly snippets: readonly Snippet[];
}

/** A program that exits with 0 and prints what is expected. */
export interface Snippet {
  readonly language: Language;
  readonly program: string;
  readonly expected: string;
  /** Where its block begins in the page. */
  readonly line: number;
}

const SERVE = /^deno task serve(?=\s)/;

/**
 * The sections of a page.
 *
 * @throws {SyntaxError} for a snippet without a server above it, or without its output below.
 */
export function readPage(page: string): Section[] {
  const sections: (Section & { snippets: Snippet[] })[] = [];
  const blocks = [...page.matchAll(/^```([^\n]*)\n(.*?)^```$/gms)];
  for (const [index, { 1: info, 2: content, index: offset }] of blocks.entries()) {
    const line = page.slice(0, offset).split("\n").length;
    if (info === "sh" && SERVE.test(content!)) {
      sections.push({ serve: splitWords(content!.replace(SERVE, "")), snippets: [] });
    } else if (info === "sh" || info === "python" || info === "ts") {
      const section = sections.at(-1);
      if (section === undefined) throw new SyntaxError(`line ${line}: no server for the snippet`);
      const next = blocks[index + 1];
      const isOutput = next?.[1] === "text" || next?.[1] === "json";
      if (!isOutput) throw new SyntaxError(`line ${line}: what does the snippet print?`);
      section.snippets.push({ language: info, program: content!, expected: next[2]!, line });
    }
  }
  return sections;
}

/** Words as a shell splits them, as far as spaces and single quotes go. */
function splitWords(command: string): string[] {
  return [...command.matchAll(/'([^']*)'|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain!);
}

/** Whether an output is as expected: white space counts as one space, `…` is anything. */
export function isAsExpected(output: string, expected: string): boolean {
  const tidy = (text: string) => text.trim().replaceAll(/\s+/g, " ");
  const pieces = tidy(expected).split(/ ?… ?/).map(RegExp.escape);
  return new RegExp(`^${pieces.join("(?:.*)")}$`, "s").test(tidy(output));
}
