/**
 * The folder in which fetched models are kept, outside the repository.
 *
 * Whatever appears in it does so by a rename, so what has a final name is complete, and processes
 * may fetch the same thing at once.
 */

import { homedir } from "node:os";
import { join } from "node:path";

/** Where to put a file, and who watches. */
export interface FetchOptions {
  /** A folder outside the repository; see {@linkcode defaultCacheDir}. Created when missing. */
  readonly cacheDir: string;
  /** Called a few times a second; `what` is a short phrase such as "Downloading …". */
  readonly onProgress?: (doneBytes: number, totalBytes: number, what: string) => void;
  /** Ends the work; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Folders in which pip is looked for, as in `PATH`, which is the default. */
  readonly searchPath?: string;
}

/** Why a file could not be fetched; the message is one sentence for the user. */
export class FetchError extends Error {
  override name = "FetchError";
  readonly reason: "no-pip" | "download" | "contents" | "cache";

  constructor(reason: FetchError["reason"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** Leftovers of processes that ended badly are removed when they are older than this. */
const LEFTOVER_AGE_MS = 60 * 60 * 1000;

/** The cache folder: `RNGD_CACHE`, else `rngd-llm` in `XDG_CACHE_HOME` or in `~/.cache`. */
export function defaultCacheDir(
  environment: (name: string) => string | undefined = (name) => Deno.env.get(name),
): string {
  const own = environment("RNGD_CACHE");
  if (own) return own;
  return join(environment("XDG_CACHE_HOME") || join(homedir(), ".cache"), "rngd-llm");
}

/**
 * Makes a file or folder of the cache, unless it is there.
 *
 * @param make Is given the path at which it is made; it gets its final name, `target`, when this
 * returns.
 * @returns `target`.
 */
export async function makeOnce(
  target: string,
  make: (part: string) => Promise<void>,
): Promise<string> {
  if (await isThere(target)) return target;
  const part = `${target}.${crypto.randomUUID()}.part`;
  try {
    await make(part);
    await Deno.rename(part, target);
  } catch (error) {
    // Another process may have been faster: it has used up the sources, or its folder stands there.
    if (!await isThere(target)) throw error;
  } finally {
    await removeIfThere(part);
  }
  return target;
}

/**
 * Makes a folder of the cache.
 *
 * @throws {FetchError} if it cannot be used.
 */
export async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FetchError("cache", `Cannot use the cache folder "${path}": ${reason}`, { cause });
  }
}

/** Removes what processes that ended badly left under such names. */
export async function removeLeftovers(folder: string, pattern: RegExp): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!pattern.test(name)) continue;
    const path = join(folder, name);
    const changed = await newestChange(path);
    if (changed !== undefined && Date.now() - changed > LEFTOVER_AGE_MS) await removeIfThere(path);
  }
}

/** When anything in a file or folder last changed; undefined if it has gone meanwhile. */
async function newestChange(path: string): Promise<number | undefined> {
  try {
    const info = await Deno.stat(path);
    let newest = info.mtime?.getTime() ?? 0;
    if (!info.isDirectory) return newest;
    for await (const { name } of Deno.readDir(path)) {
      newest = Math.max(newest, await newestChange(join(path, name)) ?? 0);
    }
    return newest;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Removes a file or folder, which may have gone already. */
export async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** Whether there is a file or folder. */
export async function isThere(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
