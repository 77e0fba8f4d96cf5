/** The rules of order that a linter does not know, each a function from sources to faults. */

import { type Edge, importsOf, reachable } from "./imports.ts";
import { lineAt, type Source } from "./source.ts";

/** Files that begin with a sentence about what they are. Plain tests explain themselves by their names. */
const NEEDS_HEADER =
  /^(?:mod\.ts|serve\.ts|(?:lib|serve|tools|examples|bench)\/.*\.ts|tests\/(?!.*_test\.ts$).*\.ts)$/;

/** Files without a comment of one sentence or more at their top. */
export function checkHeaders(sources: readonly Source[]): string[] {
  return sources
    .filter(({ path, text }) => NEEDS_HEADER.test(path) && !hasHeader(text))
    .map(({ path }) => `${path}:1: the file does not begin with a comment that says what it is`);
}

function hasHeader(text: string): boolean {
  const match = /^(?:#!.*\n)?\/\*\*([\s\S]*?)\*\/\r?\n(.*)/.exec(text);
  if (match === null) return false;
  const sentence = match[1]!.replaceAll(/^\s*\*/gm, "").trim();
  // Followed at once by a declaration it would be that declaration's comment.
  return /\S\s+\S/.test(sentence) && /[.:!?]/.test(sentence) &&
    /^(?:\s*$|import\b|export\s*[*{])/.test(match[2]!);
}

interface Ban {
  readonly pattern: RegExp;
  readonly says: string;
  readonly except?: readonly string[];
}

/** What `lib/` never does: whoever embeds the library decides about these. */
const BANS: readonly Ban[] = [
  { pattern: /(?<![.\w$])console\s*\./g, says: "prints: progress leaves through onProgress" },
  {
    pattern: /\b(?:Deno|process)\s*\.\s*env\b/g,
    says: "reads the environment",
    except: ["lib/models/hub.ts"],
  },
  { pattern: /\b(?:Deno|process)\s*\.\s*exit\b/g, says: "ends the process" },
  { pattern: /\b(?:Deno\s*\.\s*args|process\s*\.\s*argv)\b/g, says: "reads arguments" },
  { pattern: /(?:[:<|&,(]|=>|\bas\b|\bextends\b)\s*any\b(?!\s*[(:=.])/g, says: "uses `any`" },
  { pattern: /\bexport\s*\*/g, says: "exports everything of a file: name what is meant" },
  { pattern: /^(?:export\s+)?(?:let|var)\s/gm, says: "keeps mutable state in a module" },
  // What is empty at first is there to be filled. An empty list in capitals is a constant.
  {
    pattern: /^(?:export\s+)?const\s[^=\n]*=\s*new (?:Weak)?(?:Map|Set)\b[^(\n]*\(\s*\);/gm,
    says: "keeps mutable state in a module",
  },
  {
    pattern: /^(?:export\s+)?const\s+(?![A-Z_]+\b)[^=\n]*=\s*\[\s*\];/gm,
    says: "keeps mutable state in a module",
  },
];

/** Things that `lib/` never does, where it does them. */
export function checkBans(sources: readonly Source[]): string[] {
  return sources.filter(({ path }) => path.startsWith("lib/")).flatMap((file) =>
    BANS.filter(({ except }) => !except?.includes(file.path)).flatMap(({ pattern, says }) =>
      [...file.code.matchAll(pattern)].map((match) =>
        `${file.path}:${lineAt(file.text, match.index)}: ${says}`
      )
    )
  );
}

/** Names that say nothing about what is inside. */
const EMPTY_NAMES = /(?:^|\/)(?:index|utils?|helpers?|common|types|misc|shared)\.ts$/;

/** Files of `lib/` and `serve/` whose names say nothing, or are not snake_case. */
export function checkNames(paths: readonly string[]): string[] {
  return paths.filter((path) => /^(?:lib|serve)\/.*\.ts$/.test(path)).flatMap((path) => {
    if (EMPTY_NAMES.test(path) && path !== "lib/openai/types.ts") {
      return [`${path}: the name does not say what the file holds`];
    }
    return /^[a-z0-9_/]+\.ts$/.test(path) ? [] : [`${path}: the name is not snake_case`];
  });
}

/** Where snake_case properties are other people's data: wire formats, checkpoint files, messages. */
const SNAKE_PLACES: readonly string[] = [
  "lib/openai/",
  "lib/text/",
  "lib/models/config.ts",
  "lib/models/formats/",
  "lib/models/hub.ts",
  "lib/models/generation_config.ts",
  "lib/models/tokenizer_info.ts", // the names of tokenizer_config.json
  "serve/banner.ts", // the curl line that it shows
];

/** Keys of OpenAI-shaped messages and tools, which keep their names everywhere. */
const SNAKE_WORDS = new Set(["tool_calls", "tool_call_id", "reasoning_content", "image_url"]);

/** snake_case property names of ours. Names of formats such as `q4_0` are no snake_case. */
export function checkSnakeCase(sources: readonly Source[]): string[] {
  const pattern =
    /(?:\.\s*|[{,;(]\s*(?:readonly\s+)?|^\s*(?:readonly\s+)?)([a-z][a-z0-9]*(?:_[a-z][a-z0-9]*)+)\b(?:(?<=\.\s*\w+)|(?=\s*\??\s*[:(]))/gm;
  return sources
    .filter(({ path }) =>
      /^(?:lib|serve)\/|^(?:mod|serve)\.ts$/.test(path) &&
      !SNAKE_PLACES.some((place) => path.startsWith(place))
    )
    .flatMap(({ path, text, code }) =>
      [...code.matchAll(pattern)].filter(([, name]) => !SNAKE_WORDS.has(name!)).map((match) =>
        `${path}:${lineAt(text, match.index + match[0].indexOf(match[1]!))}: ` +
        `"${match[1]}" is snake_case, which belongs to the wire and to checkpoint files`
      )
    );
}

/** Files of `lib/`, `serve/` and `tests/helpers/` that nothing which is run or published leads to. */
export function checkDeadFiles(sources: readonly Source[], exported: readonly string[]): string[] {
  const edges = sources.flatMap(importsOf);
  const paths = sources.map(({ path }) => path);
  const alive = reachable(edges, exported);
  const tested = reachable(edges, paths.filter((path) => /^tests\/.*_test\.ts$/.test(path)));
  return paths
    .filter((path) =>
      /^(?:lib|serve)\//.test(path)
        ? !alive.has(path)
        : path.startsWith("tests/helpers/") && !tested.has(path)
    )
    .map((path) => `${path}: no export and no worker leads to this file`);
}

/** A folder whose files are the rows of a table. */
export interface Table {
  readonly folder: string;
  readonly table: string;
  /** Files of the folder that are not rows: what rows share. */
  readonly except: readonly string[];
}

/** Files that belong into a table and are not imported by it. A table that is missing has no rows. */
export function checkTables(sources: readonly Source[], tables: readonly Table[]): string[] {
  const paths = sources.map(({ path }) => path);
  const edges: Edge[] = sources.flatMap(importsOf);
  return tables.filter(({ table }) => paths.includes(table)).flatMap(({ folder, table, except }) =>
    paths
      .filter((path) => path.startsWith(folder) && path !== table && !except.includes(path))
      .filter((path) => !edges.some(({ from, to }) => from === table && to === path))
      .map((path) => `${path}: the file has no row in ${table}`)
  );
}

/**
 * Folders of one machine, and notes to oneself; neither belongs into what others read. The home of a
 * user called "me" is nobody's: tests may use it as an example.
 */
const LEFTOVERS: readonly [pattern: RegExp, says: string][] = [
  [
    new RegExp(
      String.raw`(?<![\w.~$}/-])/(?:${
        ["work", "root", "home", "farm", "Users"].join("|")
      })/(?!me/)\w`,
      "g",
    ),
    "names a folder of one machine",
  ],
  [/\b[A-Z]:\\+Users\\/g, "names a folder of one machine"],
  [
    new RegExp(String.raw`\b(?:${["TO" + "DO", "FIX" + "ME", "X" + "XX"].join("|")})\b`, "g"),
    "leaves a note",
  ],
];

/** Machine paths and unfinished business in any text file. */
export function checkLeftovers(files: readonly { path: string; text: string }[]): string[] {
  return files.flatMap(({ path, text }) =>
    LEFTOVERS.flatMap(([pattern, says]) =>
      [...text.matchAll(pattern)].map((match) =>
        `${path}:${lineAt(text, match.index)}: ${says}: "${match[0]}"`
      )
    )
  );
}
