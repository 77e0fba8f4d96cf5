/**
 * A model's name → a path: a file or folder as it is, or a hub model, from the cache that is shared
 * with huggingface_hub. What the cache lacks is downloaded into it; what it has is used as it is,
 * without asking the hub whether there is something newer.
 */

import { fileURLToPath } from "node:url";
import { CheckpointError, DownloadError, ModelNotFoundError } from "../base/errors.ts";
import { HubCache, isThere, type Symlink } from "./hub_cache.ts";
import { chooseWeights } from "./hub_choice.ts";
import { HubClient } from "./hub_client.ts";
import type { DownloadJob } from "./hub_download.ts";
import type { HubListing } from "./hub_listing.ts";
import { downloadHeaders, downloadModel } from "./hub_model.ts";
import { checkRevision, type HubName, isLocalOnly, readHubName } from "./hub_name.ts";
import { DownloadProgress } from "./hub_progress.ts";
import { type Environment, expandHome, type HubSettings, readHubSettings } from "./hub_settings.ts";
import { RevisionNotFoundError } from "./hub_status.ts";
import { HUB_TIMES, type HubTimes, TransientError, withTries } from "./hub_tries.ts";

/** How a name is looked up. */
export interface ResolveOptions {
  /** Branch, tag or commit of a hub model. Default "main"; of `furiosa-ai` first the release's tag. */
  readonly revision?: string;
  /** Reads one environment variable. Default: the process's, where permission was given. */
  readonly environment?: Environment;
  /** Bytes of the download so far, and in all. Not called where nothing is missing. */
  readonly onProgress?: (done: number, total: number) => void;
  /** Ends the download; what has come so far is kept. */
  readonly signal?: AbortSignal;
  /**
   * Instead of weights in safetensors files that the cache lacks, get only their headers, into the
   * folder that this gives and that is then the result. Default: get all.
   */
  readonly headersInto?: () => string;
  /** Default: those of the real world. */
  readonly times?: HubTimes;
  /** Default: the system's. */
  readonly symlink?: Symlink;
}

/** A `file:` URL, such as `import.meta.resolve("./model.gguf")` gives, as a path. */
function pathOfUrl(url: string): string {
  try {
    return fileURLToPath(url);
  } catch (cause) {
    const message = `Cannot find model "${url}": it is no URL of a file`;
    throw new ModelNotFoundError(message, { cause });
  }
}

/** The hub, unless HF_ENDPOINT names another: the one host that this library knows. */
const HUB_ENDPOINT = "https://huggingface.co";
/** The organisation whose repositories have a tag for each release, and the release we are like. */
const RELEASE = { organization: "furiosa-ai/", tag: "v2026.1" } as const;

/**
 * Finds the folder or .gguf file that `name` means. An existing path wins over a hub model of the
 * same name; what looks like a path is never looked up on the hub.
 *
 * @throws {ModelNotFoundError} There is nothing under that name.
 * @throws {CheckpointError} The repository has no weights that can be loaded, or too many.
 * @throws {DownloadError} The hub cannot be reached, or is not to be trusted.
 */
export async function resolveModel(name: string, options: ResolveOptions = {}): Promise<string> {
  const { environment = readEnvironment, revision } = options;
  if (revision !== undefined) checkRevision(revision);
  const path = name.startsWith("file:") ? pathOfUrl(name) : expandHome(name, environment);
  if (name !== "" && isThere(path)) return onlyGgufOf(path) ?? path;
  const hubName = readHubName(name);
  if (hubName === undefined) {
    throw new ModelNotFoundError(
      `Cannot find model "${name}": there is no such file or folder` +
        (isLocalOnly(name) ? "" : ', and a hub model is named "organization/model"'),
    );
  }
  const settings = readHubSettings(environment, HUB_ENDPOINT);
  if (settings.cache === undefined) {
    throw new ModelNotFoundError(
      `Cannot find model "${name}": there is no such file or folder, and no hub cache is known; ` +
        "set HF_HOME, and give permission to read it (--allow-env)",
    );
  }
  const cache = new HubCache(settings.cache, hubName.id, options.symlink);
  const revisions = revision !== undefined
    ? [revision]
    : hubName.id.startsWith(RELEASE.organization)
    ? [RELEASE.tag, "main"]
    : ["main"];
  for (const each of revisions) {
    const found = cache.find(each, hubName.gguf);
    if (found !== undefined) return onlyGgufOf(found) ?? found;
  }
  return await download(hubName, revisions, cache, settings, options);
}

async function download(
  { id, gguf }: HubName,
  revisions: readonly string[],
  cache: HubCache,
  settings: HubSettings,
  options: ResolveOptions,
): Promise<string> {
  const { times = HUB_TIMES, signal = new AbortController().signal } = options;
  const where = `the hub cache "${settings.cache}" does not hold it`;
  if (settings.isOffline) {
    throw new ModelNotFoundError(`Cannot load "${id}": HF_HUB_OFFLINE is set, and ${where}`);
  }
  const client = new HubClient({ ...settings, stallMs: times.stallMs });
  let listing: HubListing;
  try {
    listing = await list(client, id, revisions, { times, signal });
  } catch (error) {
    if (!(error instanceof TransientError)) throw error;
    const why = `Cannot download "${id}" as ${error.message}`;
    throw new DownloadError(id, `${why}, and ${where}`, { cause: error });
  }
  const weights = chooseWeights(listing, gguf);
  const progress = new DownloadProgress(options.onProgress);
  const onBytes = (blob: string, done: number) => progress.set(blob, done);
  const job: DownloadJob = { client, cache, listing, times, signal, onBytes };
  try {
    await cache.prepare();
    if (options.headersInto !== undefined && weights.kind !== "gguf") {
      const folder = options.headersInto();
      await downloadHeaders(job, weights, { progress, folder });
      return folder;
    }
    await downloadModel(job, weights, progress);
    await cache.writeRef(listing.revision, listing.commit);
  } catch (error) {
    // A full disk, a folder that may not be written: the system's words, and whose they are.
    const isOurs = error instanceof DownloadError || error instanceof CheckpointError;
    if (isOurs || !(error instanceof Error) || !/\(os error \d+\)/.test(error.message)) throw error;
    const why = `Cannot download "${id}" into "${settings.cache}": ${error.message}`;
    throw new DownloadError(id, why, { cause: error });
  }
  const folder = cache.snapshot(listing.commit);
  return weights.kind === "gguf" ? `${folder}/${weights.file.name}` : folder;
}

/** The first of the revisions that there is. */
async function list(
  client: HubClient,
  id: string,
  revisions: readonly string[],
  tries: { times: HubTimes; signal: AbortSignal },
): Promise<HubListing> {
  for (const revision of revisions.slice(0, -1)) {
    try {
      return await withTries(() => client.list(id, revision, tries.signal), tries);
    } catch (error) {
      if (!(error instanceof RevisionNotFoundError)) throw error;
    }
  }
  const last = revisions.at(-1) ?? "main";
  return await withTries(() => client.list(id, last, tries.signal), tries);
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

/** Asks first whether it may: reading without permission would stop the program with a question. */
function readEnvironment(variable: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable });
  return state === "granted" ? Deno.env.get(variable) : undefined;
}
