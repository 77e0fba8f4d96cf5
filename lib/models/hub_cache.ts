/**
 * One model in the cache that it shares with huggingface_hub:
 *
 * ```text
 * models--org--name/refs/main                          the commit that a branch or tag stood at
 *                  /snapshots/<commit>/config.json     a link to a blob; or the file itself
 *                  /blobs/<etag>                       a file's content
 *                  /blobs/<etag>.incomplete            as far as it has come
 * .locks/models--org--name/<etag>.lock                 held by the process that downloads it
 * ```
 */

import { isRecord } from "../base/record.ts";
import { INDEX_FILE, matchGguf, NEEDED_FILES, SINGLE_FILE, TOKENIZER_FILES } from "./hub_choice.ts";
import type { HubFile } from "./hub_listing.ts";
import type { GgufWish } from "./hub_name.ts";

/** Makes a symbolic link. A test gives one that fails. */
export type Symlink = (target: string, path: string) => Promise<void>;

/** See the file's header. */
export class HubCache {
  readonly #repository: string;
  readonly #locks: string;
  readonly #symlink: Symlink;

  /** @param cache the folder of all models */
  constructor(cache: string, id: string, symlink: Symlink = makeSymlink) {
    const folder = `models--${id.replace("/", "--")}`;
    this.#repository = `${cache}/${folder}`;
    this.#locks = `${cache}/.locks/${folder}`;
    this.#symlink = symlink;
  }

  /** What a model at a revision is loaded from, if all of it is here: a folder, or a .gguf file. */
  find(revision: string, wish: GgufWish | undefined): string | undefined {
    const commit = this.#commitOf(revision);
    const folder = this.snapshot(commit);
    if (!/^\w+$/.test(commit) || !isThere(folder)) return undefined;
    if (wish !== undefined) {
      const found = matchGguf(listFiles(folder), wish).filter((name) =>
        isThere(`${folder}/${name}`)
      );
      return found.length === 1 ? `${folder}/${found[0]}` : undefined;
    }
    return holdsModel(folder) ? folder : undefined;
  }

  /** The folder of a commit's files. */
  snapshot(commit: string): string {
    return `${this.#repository}/snapshots/${commit}`;
  }

  blob(file: HubFile): string {
    return `${this.#repository}/blobs/${file.blob}`;
  }

  /** Where a file's content is gathered. */
  incomplete(file: HubFile): string {
    return `${this.blob(file)}.incomplete`;
  }

  lockFile(file: HubFile): string {
    return `${this.#locks}/${file.blob}.lock`;
  }

  /** Makes the folders that files of a commit go to. */
  async prepare(): Promise<void> {
    await Deno.mkdir(`${this.#repository}/blobs`, { recursive: true });
    await Deno.mkdir(this.#locks, { recursive: true });
  }

  hasBlob(file: HubFile): boolean {
    return sizeOf(this.blob(file)) === file.sizeBytes;
  }

  /** Whether a commit's snapshot has the file, as a link or as itself. */
  hasFile(commit: string, file: HubFile): boolean {
    return sizeOf(`${this.snapshot(commit)}/${file.name}`) === file.sizeBytes;
  }

  /**
   * Puts a blob into a commit's snapshot: a relative link, as the whole cache may be moved. Where
   * links cannot be made (Windows without the privilege, file systems without them, permission for
   * some folders only) the file itself goes there: moved if the blob is `ours` alone, else copied.
   */
  async place(commit: string, file: HubFile, ours: boolean): Promise<void> {
    const path = `${this.snapshot(commit)}/${file.name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const depth = file.name.split("/").length + 1;
    const part = `${path}.${crypto.randomUUID()}.part`;
    try {
      if (await this.#linked(`${"../".repeat(depth)}blobs/${file.blob}`, part)) {
        await Deno.rename(part, path);
      } else if (ours) {
        await Deno.rename(this.blob(file), path);
      } else {
        await Deno.copyFile(this.blob(file), part);
        await Deno.rename(part, path);
      }
    } finally {
      await removeIfThere(part);
    }
  }

  /** Notes the commit of a branch or tag. A commit needs no note. */
  async writeRef(revision: string, commit: string): Promise<void> {
    if (revision === commit) return;
    const path = `${this.#repository}/refs/${revision}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const part = `${path}.${crypto.randomUUID()}.part`;
    try {
      await Deno.writeTextFile(part, commit);
      await Deno.rename(part, path);
    } finally {
      await removeIfThere(part);
    }
  }

  #commitOf(revision: string): string {
    try {
      return Deno.readTextFileSync(`${this.#repository}/refs/${revision}`).trim();
    } catch (error) {
      // A commit has no ref file, and a folder of refs is none.
      if (isMissing(error) || error instanceof Deno.errors.IsADirectory) return revision;
      throw error;
    }
  }

  /** Every system says in other words that it makes no links, so that any failure means just that. */
  async #linked(target: string, path: string): Promise<boolean> {
    try {
      await this.#symlink(target, path);
      return true;
    } catch {
      return false;
    }
  }
}

/** Deno makes links only with unlimited permission; asking first keeps it from asking the user. */
async function makeSymlink(target: string, path: string): Promise<void> {
  for (const name of ["read", "write"] as const) {
    if ((await Deno.permissions.query({ name })).state !== "granted") {
      throw new Deno.errors.NotCapable("Links need unlimited permission to read and write");
    }
  }
  const isWindows = Deno.build.os === "windows";
  await Deno.symlink(isWindows ? target.replaceAll("/", "\\") : target, path, { type: "file" });
}

/**
 * Whether a folder can be loaded. Small files that a model may lack are downloaded before its
 * weights: where those are, nothing is missing.
 */
function holdsModel(folder: string): boolean {
  const has = (name: string) => isThere(`${folder}/${name}`);
  const shards = has(INDEX_FILE) ? shardsOf(`${folder}/${INDEX_FILE}`) : [SINGLE_FILE];
  if (shards.every(has)) {
    return NEEDED_FILES.every(has) && TOKENIZER_FILES.some((names) => names.every(has));
  }
  const names = listFiles(folder);
  return !names.some((name) => name.endsWith(".safetensors")) &&
    matchGguf(names, undefined).some((name) => !name.includes("/") && has(name));
}

/** The files that an index names; none if it is broken, which is for its reader to tell. */
function shardsOf(path: string): string[] {
  try {
    const json: unknown = JSON.parse(Deno.readTextFileSync(path));
    const map = isRecord(json) ? json["weight_map"] : undefined;
    return isRecord(map) ? [...new Set(Object.values(map).map(String))] : [];
  } catch (error) {
    if (error instanceof SyntaxError) return [];
    throw error;
  }
}

/** The files of a folder and of the folders in it. */
function listFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].flatMap(({ name, isDirectory }) =>
    isDirectory
      ? [...Deno.readDirSync(`${folder}/${name}`)].map((inner) => `${name}/${inner.name}`)
      : [name]
  );
}

/** Whether a path leads to something: a link without a target does not. */
export function isThere(path: string): boolean {
  return statOf(path) !== undefined;
}

function sizeOf(path: string): number | undefined {
  const info = statOf(path);
  return info?.isFile ? info.size : undefined;
}

function statOf(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory;
}

/** Removes a file, if there is one. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (error) {
    if (!isMissing(error)) throw error;
  }
}
