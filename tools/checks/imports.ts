/** Who imports whom: the edges between files, read from their text. */

import { lineAt, type Source } from "./source.ts";

/** One import of one file. */
export interface Edge {
  readonly from: string;
  /** A repository path (`lib/llm.ts`), or the specifier of an outside package as it is written. */
  readonly to: string;
  readonly line: number;
  /**
   * `static` and `dynamic` imports, `types` for what the compiler erases, and `url` for a module
   * that is named by `new URL("…", import.meta.url)`, as worker threads are.
   */
  readonly kind: "static" | "dynamic" | "types" | "url";
}

/** Forms of import; each ends in the quote that opens the specifier. */
const FORMS: readonly [kind: Edge["kind"], pattern: RegExp][] = [
  ["static", /(?<![.\w$])(?:import|export)\b(?<clause>[^;"'`()=]*?)\bfrom\s*["']/g],
  ["static", /(?<![.\w$])import\s*["']/g],
  ["dynamic", /(?<![.\w$])import\s*\(\s*["'`]/g],
  ["dynamic", /(?<![\w$])import\.meta\.resolve\s*\(\s*["'`]/g],
  ["url", /(?<![.\w$])new\s+URL\s*\(\s*["'](?=\s*["']\s*,\s*import\.meta\.url)/g],
];

/** The imports of one file. A specifier that is held in a variable cannot be seen. */
export function importsOf({ path, text, code }: Source): Edge[] {
  const edges: Edge[] = [];
  for (const [form, pattern] of FORMS) {
    for (const match of code.matchAll(pattern)) {
      const start = match.index + match[0].length;
      const specifier = text.slice(start, text.indexOf(text[start - 1]!, start));
      if (form === "url" && !/\.[jt]s$/.test(specifier)) continue;
      edges.push({
        from: path,
        to: specifier.startsWith(".") ? resolve(path, specifier) : specifier,
        line: lineAt(text, match.index),
        kind: onlyTypes(match.groups?.["clause"]) ? "types" : form,
      });
    }
  }
  return edges.sort((a, b) => a.line - b.line);
}

/** ` type { A }`, ` { type A, type B }` → true. */
function onlyTypes(clause: string | undefined): boolean {
  if (clause === undefined) return false;
  if (/^\s+type\s+[\w$*{]/.test(clause)) return true;
  const names = /^\s*\{(.*)\}\s*$/s.exec(clause)?.[1]?.split(",").filter((name) => name.trim());
  return names !== undefined && names.length > 0 &&
    names.every((name) => /^\s*type\s+\w/.test(name));
}

function resolve(from: string, specifier: string): string {
  const parts = from.split("/").slice(0, -1);
  for (const part of specifier.split("/")) {
    if (part === "..") parts.pop();
    else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/**
 * The cycles of static imports, each as the paths along it, the first repeated at the end. Types
 * count: a cycle of types is a knot too. Worker URLs and dynamic imports do not: they start later.
 */
export function findCycles(edges: readonly Edge[]): string[][] {
  const next = new Map<string, Set<string>>();
  for (const { from, to, kind } of edges) {
    if (kind === "dynamic" || kind === "url") continue;
    next.set(from, (next.get(from) ?? new Set()).add(to));
  }
  const cycles: string[][] = [];
  const finished = new Set<string>();
  const path: string[] = [];
  const visit = (file: string) => {
    const start = path.indexOf(file);
    if (start >= 0) {
      cycles.push([...path.slice(start), file]);
      return;
    }
    if (finished.has(file)) return;
    path.push(file);
    for (const target of next.get(file) ?? []) visit(target);
    path.pop();
    finished.add(file);
  };
  for (const file of [...next.keys()].sort()) visit(file);
  return cycles;
}

/** Every file that can be reached from the given ones, by any kind of import. */
export function reachable(edges: readonly Edge[], roots: readonly string[]): Set<string> {
  const seen = new Set(roots);
  const waiting = [...roots];
  while (waiting.length > 0) {
    const file = waiting.pop();
    for (const { from, to } of edges) {
      if (from === file && !seen.has(to)) {
        seen.add(to);
        waiting.push(to);
      }
    }
  }
  return seen;
}
