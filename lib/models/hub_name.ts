/** Names of models on the hub, and of their revisions: what they may look like, and what they say. */

import { InvalidParameterError } from "../base/errors.ts";

/** A hub name, taken apart. */
export interface HubName {
  /** `organization/model`. */
  readonly id: string;
  /** Which GGUF file is meant, where the name says so. */
  readonly gguf?: GgufWish;
}

/** `organization/model/file.gguf` names a file, `organization/model:Q4_0` the end of its name. */
export type GgufWish =
  | { readonly kind: "file"; readonly name: string }
  | { readonly kind: "tag"; readonly tag: string };

const PART = String.raw`[A-Za-z0-9_][\w.-]*`;
const ID = new RegExp(`^${PART}/${PART}$`);
const NAME = new RegExp(
  `^(?<id>${PART}/${PART})(?::(?<tag>${PART})|/(?<file>[^:\\\\]+\\.gguf))?$`,
  "i",
);

/** Whether a name can only be a path: it is never looked up on the hub. */
export function isLocalOnly(name: string): boolean {
  return /^(\.{0,2}[\\/]|~|\.{1,2}$|[A-Za-z]:)/.test(name);
}

/** Takes a hub name apart; undefined for anything else. */
export function readHubName(name: string): HubName | undefined {
  if (isLocalOnly(name)) return undefined;
  const { id, tag, file } = NAME.exec(name)?.groups ?? {};
  if (id === undefined || !isHubId(id)) return undefined;
  if (tag !== undefined) return { id, gguf: { kind: "tag", tag } };
  if (file === undefined) return { id };
  return isSafeFileName(file) ? { id, gguf: { kind: "file", name: file } } : undefined;
}

/** `organization/model`, spelled so that it can be the name of a folder in the cache. */
export function isHubId(text: string): boolean {
  return ID.test(text) && !text.includes("..") && !text.includes("--");
}

/** A relative path with `/` that stays where it is put, on every system. */
export function isSafeFileName(name: string): boolean {
  // deno-lint-ignore no-control-regex -- they are what is looked for
  if (name.length > 1000 || /[\\:\x00-\x1f\x7f]/.test(name)) return false;
  return name.split("/").every((part) =>
    part !== "" && part !== "." && part !== ".." && part.length <= 240
  );
}

/**
 * Checks a branch, tag or commit.
 *
 * @throws {InvalidParameterError} It could not be one, or would lead out of the cache.
 */
export function checkRevision(revision: unknown): asserts revision is string {
  const isGood = typeof revision === "string" && revision.length <= 250 &&
    /^\w[\w.+-]*(\/\w[\w.+-]*)*$/.test(revision) && !revision.includes("..");
  if (isGood) return;
  throw new InvalidParameterError(
    "revision",
    revision,
    `Cannot use revision "${String(revision)}": it must be the name of a branch or a tag, ` +
      "or a commit",
  );
}
