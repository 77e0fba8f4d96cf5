/** What `docs/compatibility.md` claims, as rows, and the rules that its text must keep. */

import { posix } from "node:path";
import type { Source } from "./source.ts";

/** The page. */
export const PAGE = "docs/compatibility.md";

/** What a cell of the last column may begin with; the page's legend explains each word. */
const WORDS = ["works", "in part", "ignored", "later", "no"] as const;

/** One of the words. */
export type Word = typeof WORDS[number];

/** One row of a table with the four columns. */
export interface Row {
  /** The head of its first column: `Route`, `Parameter`, `Header` or `Key` have names, `Rule` prose. */
  readonly kind: string;
  /** The heading above its table. */
  readonly heading: string;
  readonly line: number;
  /** What it is about: the words in backticks of its first cell. */
  readonly names: readonly string[];
  /** The first link's text in its last cell; undefined if there is none. */
  readonly word: string | undefined;
  /** The labels of all links in its last cell. */
  readonly labels: readonly string[];
}

/** A test that the page points at. */
export interface TestLink {
  readonly label: string;
  readonly line: number;
  /** Relative to the repository. */
  readonly path: string;
  /** The test's name; undefined where only a file is meant. */
  readonly name: string | undefined;
}

/** The page, taken apart. */
export interface Page {
  readonly rows: readonly Row[];
  readonly links: readonly TestLink[];
  /** Each label that is used, with the line. */
  readonly used: readonly { readonly label: string; readonly line: number }[];
}

const LINK = /\[([^\]]+)\]\[([^\]]+)\]/g;
const DEFINITION = /^\[([^\]]+)\]: (\S+)(?: (["'])(.*)\3)?$/;

/** Takes the page apart. */
export function readPage(text: string): Page {
  const rows: Row[] = [];
  const links: TestLink[] = [];
  const used: { label: string; line: number }[] = [];
  let heading = "";
  let kind: string | undefined;
  for (const [at, content] of text.split("\n").entries()) {
    const line = at + 1;
    const definition = DEFINITION.exec(content);
    if (definition !== null) {
      const [, label, target, , name] = definition;
      links.push({ label: label!, line, path: posix.join("docs", target!), name });
      continue;
    }
    for (const [, , label] of content.matchAll(LINK)) used.push({ label: label!, line });
    heading = /^##+ (.*)$/.exec(content)?.[1] ?? heading;
    if (!content.startsWith("|")) {
      kind = undefined;
      continue;
    }
    const cells = content.split("|").slice(1, -1).map((cell) => cell.trim());
    if (cells.at(-1) === "Ours" && cells.length === 5) kind = cells[0];
    else if (kind !== undefined && !/^-+$/.test(cells[0]!)) {
      rows.push({ kind, heading, line, ...readCells(cells) });
    }
  }
  return { rows, links, used };
}

function readCells(cells: readonly string[]): Pick<Row, "names" | "word" | "labels"> {
  const found = [...cells.at(-1)!.matchAll(LINK)];
  return {
    names: [...cells[0]!.matchAll(/`([^`]+)`/g)].map(([, name]) => name!),
    word: found[0]?.[1],
    labels: found.map(([, , label]) => label!),
  };
}

/** Rows without a name, without a link, or that begin with a word that the legend does not have. */
export function checkRows({ rows }: Page): string[] {
  return rows.flatMap(({ kind, line, names, word }) => {
    const where = `${PAGE}:${line}`;
    if (word === undefined) return [`${where}: the last cell links to no test`];
    if (kind === "Rule") return [];
    if (names.length === 0) return [`${where}: the row names nothing in backticks`];
    if ((WORDS as readonly string[]).includes(word)) return [];
    return [`${where}: "${word}" is not a word of the legend: ${WORDS.join(", ")}`];
  });
}

/** Links without a definition, definitions without a link, and tests that are not there. */
export function checkLinks({ links, used }: Page, sources: readonly Source[]): string[] {
  const defined = new Set(links.map(({ label }) => label));
  const wanted = new Set(used.map(({ label }) => label));
  const tests = new Map(sources.map((file) => [file.path, testNames(file)]));
  return [
    ...used.filter(({ label }) => !defined.has(label))
      .map(({ label, line }) => `${PAGE}:${line}: nothing says where [${label}] leads`),
    ...links.flatMap(({ label, line, path, name }) => {
      const where = `${PAGE}:${line}`;
      if (!wanted.has(label)) return [`${where}: nobody uses [${label}]`];
      if (!path.startsWith("tests/")) return [];
      const names = tests.get(path);
      if (names === undefined) return [`${where}: there is no file ${path}`];
      if (name === undefined || names.includes(name)) return [];
      return [`${where}: ${path} has no test "${name}"`];
    }),
  ];
}

/** Links into the page and to other pages that lead nowhere; `paths` are all files there are. */
export function checkTargets(text: string, paths: readonly string[]): string[] {
  const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) => `#${anchorOf(heading!)}`);
  return [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target]) => target!)
    .filter((target) =>
      target.startsWith("#")
        ? !anchors.includes(target)
        : !target.includes("://") && !paths.includes(posix.join("docs", target.split("#")[0]!))
    )
    .map((target) => `${PAGE}: the link to ${target} leads nowhere`);
}

/** As GitHub makes it of a heading. */
function anchorOf(heading: string): string {
  return heading.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-");
}

/** The names of a file's tests, as far as they stand there as plain texts. */
export function testNames({ text, code }: Source): string[] {
  const calls = code.matchAll(/(?<![.\w$])(?:Deno\.test|[a-z]\w*Test)\(\s*(["'])/g);
  return [...calls].map((call) => {
    const start = call.index + call[0].length;
    return text.slice(start, code.indexOf(call[1]!, start));
  });
}

/** Names that no row under the given headings has, not even as the first part of one. */
export function namesWithoutRow(
  { rows }: Page,
  headings: readonly string[],
  names: Iterable<string>,
): string[] {
  const known = new Set(
    rows.filter(({ heading }) => headings.includes(heading))
      .flatMap((row) => row.names)
      .flatMap((name) => [name, name.split(".")[0]!]),
  );
  return [...names].filter((name) => !known.has(name));
}
