/** The repository's TypeScript files, and their text with comments and strings blanked out. */

import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";

/** The repository's folder. */
export const ROOT: string = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** One source file. */
export interface Source {
  /** Relative to the repository, with forward slashes. */
  readonly path: string;
  readonly text: string;
  /**
   * The text with the insides of comments, strings, templates and regular expressions replaced by
   * spaces: every index and line means the same in both. Quotes stay, and so does the code inside
   * `${…}`.
   */
  readonly code: string;
}

/** Makes a {@linkcode Source} of a text. */
export function source(path: string, text: string): Source {
  return { path, text, code: blank(text) };
}

/** Reads every file below the given files and folders that ends in `.ts`; missing ones are left out. */
export function readSources(places: readonly string[]): Source[] {
  return places
    .flatMap((place) => listFiles(join(ROOT, place)))
    .filter((path) => path.endsWith(".ts"))
    .map((path) => source(repositoryPath(path), Deno.readTextFileSync(path)));
}

/** All files below a file or folder, sorted; none if it is missing. */
export function listFiles(place: string): string[] {
  let info: Deno.FileInfo;
  try {
    info = Deno.statSync(place);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
  if (!info.isDirectory) return [place];
  return [...Deno.readDirSync(place)]
    .filter(({ name }) => name !== "node_modules")
    .map(({ name }) => join(place, name))
    .sort()
    .flatMap(listFiles);
}

/** A path on this machine → the path inside the repository, with forward slashes. */
export function repositoryPath(path: string): string {
  return relative(ROOT, path).replaceAll("\\", "/");
}

/** The line, from 1, that an index is on. */
export function lineAt(text: string, index: number): number {
  return text.slice(0, index).split("\n").length;
}

/** After these, a `/` begins a regular expression and is no division. */
const BEFORE_REGEX =
  /(?:^|[-+*%&|^!~<>=?:;,([{}]|\b(?:return|typeof|case|in|of|do|else|void|delete|throw|await|yield))$/;

function blank(text: string): string {
  const out = text.split("");
  /** For each open `${`: how many braces were opened inside it. */
  const templates: number[] = [];
  let at = 0;

  const erase = (from: number, to: number) => {
    for (let index = from; index < to; index++) if (out[index] !== "\n") out[index] = " ";
  };
  const endOfQuoted = (quote: string) => {
    let end = at + 1;
    while (end < text.length && text[end] !== quote && text[end] !== "\n") {
      end += text[end] === "\\" ? 2 : 1;
    }
    return end;
  };
  const endOfRegex = () => {
    let end = at + 1;
    let inClass = false;
    while (end < text.length && text[end] !== "\n" && (inClass || text[end] !== "/")) {
      if (text[end] === "[") inClass = true;
      else if (text[end] === "]") inClass = false;
      end += text[end] === "\\" ? 2 : 1;
    }
    return end;
  };
  /** From inside a template to its end or its next `${`. */
  const skipTemplate = (from: number) => {
    let end = from;
    while (end < text.length && text[end] !== "`" && !text.startsWith("${", end)) {
      end += text[end] === "\\" ? 2 : 1;
    }
    erase(from, Math.min(end, text.length));
    if (text[end] === "$") templates.push(0);
    at = end + (text[end] === "$" ? 2 : 1);
  };

  while (at < text.length) {
    const character = text[at];
    if (text.startsWith("//", at)) {
      const end = text.indexOf("\n", at);
      erase(at, end < 0 ? text.length : end);
      at = end < 0 ? text.length : end;
    } else if (text.startsWith("/*", at)) {
      const end = text.indexOf("*/", at + 2);
      erase(at, end < 0 ? text.length : end + 2);
      at = end < 0 ? text.length : end + 2;
    } else if (character === '"' || character === "'") {
      const end = endOfQuoted(character);
      erase(at + 1, Math.min(end, text.length));
      at = end + 1;
    } else if (character === "`") {
      skipTemplate(at + 1);
    } else if (character === "/" && BEFORE_REGEX.test(lastCode(out, at))) {
      const end = endOfRegex();
      erase(at + 1, Math.min(end, text.length));
      at = end + 1;
    } else if (character === "{" && templates.length > 0) {
      templates[templates.length - 1]!++;
      at++;
    } else if (character === "}" && templates.length > 0) {
      if (templates.at(-1) === 0) {
        templates.pop();
        skipTemplate(at + 1);
      } else {
        templates[templates.length - 1]!--;
        at++;
      }
    } else {
      at++;
    }
  }
  return out.join("");
}

/** The last few characters of code before an index, without the space between. */
function lastCode(out: readonly string[], before: number): string {
  let end = before;
  while (end > 0 && /\s/.test(out[end - 1]!)) end--;
  return out.slice(Math.max(0, end - 8), end).join("");
}
