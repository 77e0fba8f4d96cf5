/** A model's name → a path: a file or folder, or a hub model that the local cache holds already. */

import { ModelNotFoundError } from "../base/errors.ts";

/** How a name is looked up. */
export interface ResolveOptions {
  /** Branch, tag or commit of a hub model. Default "main". */
  readonly revision?: string;
  /** Reads one environment variable. Default: the process's, where permission was given. */
  readonly environment?: (name: string) => string | undefined;
}

/**
 * Finds the folder or .gguf file that `name` means. An existing path wins over a hub model of the
 * same name; what looks like a path is never looked up in the hub cache.
 */
export function resolveModel(name: string, options: ResolveOptions = {}): string {
  const { revision = "main", environment = readEnvironment } = options;
  const path = expandHome(name, environment);
  if (name !== "" && exists(path)) return onlyGgufOf(path) ?? path;
  const [organization, repository] = readHubName(name) ?? [];
  if (organization === undefined || repository === undefined) {
    throw new ModelNotFoundError(
      `Cannot find model "${name}": there is no such file or folder` +
        (isLocalOnly(name) ? "" : ', and a hub model is named "organization/model"'),
    );
  }

  const cache = cacheFolder(environment);
  const snapshot = cache === undefined
    ? undefined
    : findSnapshot(`${cache}/models--${organization}--${repository}`, revision);
  if (snapshot === undefined) {
    const where = cache === undefined
      ? "no hub cache is known"
      : `the hub cache "${cache}" lacks it`;
    throw new ModelNotFoundError(
      `Cannot find model "${name}" at revision "${revision}": there is no such folder, and ${where}; ` +
        `downloads are not built yet, so run "hf download ${name}" first, ` +
        "or name a folder or a .gguf file",
    );
  }
  return onlyGgufOf(snapshot) ?? snapshot;
}

function isLocalOnly(name: string): boolean {
  return /^(\.{0,2}[\\/]|~|\.{1,2}$|[A-Za-z]:)/.test(name);
}

function readHubName(name: string): string[] | undefined {
  if (isLocalOnly(name) || name.includes("..") || name.includes("--")) return undefined;
  return /^(\w[\w.-]*)\/(\w[\w.-]*)$/.exec(name)?.slice(1);
}

/** Where huggingface_hub keeps its cache, by the same variables in the same order. */
function cacheFolder(environment: (name: string) => string | undefined): string | undefined {
  const folder = (variable: string, inner: string) => {
    const value = environment(variable);
    return value ? expandHome(value, environment) + inner : undefined;
  };
  return folder("HF_HUB_CACHE", "") ??
    folder("HF_HOME", "/hub") ??
    folder("XDG_CACHE_HOME", "/huggingface/hub") ??
    folder("HOME", "/.cache/huggingface/hub") ??
    folder("USERPROFILE", "/.cache/huggingface/hub");
}

/** The revision is a ref, whose file holds a commit, or a commit itself. */
function findSnapshot(repository: string, revision: string): string | undefined {
  if (!/^\w[\w.-]*(\/\w[\w.-]*)*$/.test(revision)) return undefined;
  let commit = revision;
  try {
    commit = Deno.readTextFileSync(`${repository}/refs/${revision}`).trim();
  } catch (error) {
    // A commit has no ref file; "main" may be a folder only if the cache is damaged.
    if (!(error instanceof Deno.errors.NotFound) && !(error instanceof Deno.errors.IsADirectory)) {
      throw error;
    }
  }
  const snapshot = `${repository}/snapshots/${commit}`;
  return /^\w+$/.test(commit) && exists(snapshot) ? snapshot : undefined;
}

/** A folder without safetensors, but with one .gguf file, is a wrapping of that file. */
function onlyGgufOf(path: string): string | undefined {
  if (!Deno.statSync(path).isDirectory) return undefined;
  const names = [...Deno.readDirSync(path)].map((entry) => entry.name);
  if (names.some((name) => name.endsWith(".safetensors"))) return undefined;
  const ggufs = names.filter((name) => name.toLowerCase().endsWith(".gguf"));
  if (ggufs.length > 1) {
    throw new ModelNotFoundError(
      `Cannot choose a model in "${path}": it holds ${ggufs.length} .gguf files; ` +
        `name one of them: ${ggufs.sort().join(", ")}`,
    );
  }
  return ggufs.length === 1 ? `${path.replace(/[\\/]+$/, "")}/${ggufs[0]}` : undefined;
}

function expandHome(path: string, environment: (name: string) => string | undefined): string {
  if (path !== "~" && !/^~[\\/]/.test(path)) return path;
  const home = environment("HOME") ?? environment("USERPROFILE");
  return home === undefined ? path : home + path.slice(1);
}

function exists(path: string): boolean {
  try {
    Deno.statSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
}

/** Asks first whether it may: reading without permission would stop the program with a question. */
function readEnvironment(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}
