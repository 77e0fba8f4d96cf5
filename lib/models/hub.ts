/**
 * A model's name → a path: a file or folder as it is, or a hub model, from the cache that is shared
 * with huggingface_hub. What the cache lacks is downloaded into it; what it has is used as it is,
 * without asking the hub whether there is something newer.
 */

import { CheckpointError, DownloadError, ModelNotFoundError } from "../base/errors.ts";
import { readModelConfig } from "./config.ts";
import { isObject } from "./fields.ts";
import { HubCache, isThere, type Symlink } from "./hub_cache.ts";
import { chooseSmallFiles, chooseWeights, type HubWeights } from "./hub_choice.ts";
import { HubClient } from "./hub_client.ts";
import { downloadAll, type DownloadJob } from "./hub_download.ts";
import type { HubFile, HubListing } from "./hub_listing.ts";
import { checkRevision, type HubName, isLocalOnly, readHubName } from "./hub_name.ts";
import { type Environment, expandHome, type HubSettings, readHubSettings } from "./hub_settings.ts";
import { RevisionNotFoundError } from "./hub_status.ts";
import { HUB_TIMES, type HubTimes, TransientError, withTries } from "./hub_tries.ts";
import { ModelFolder } from "./model_folder.ts";

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
  /** Default: those of the real world. */
  readonly times?: HubTimes;
  /** Default: the system's. */
  readonly symlink?: Symlink;
}

/** The hub, unless HF_ENDPOINT names another: the one host that this library knows. */
const HUB_ENDPOINT = "https://huggingface.co";
/** The organisation whose repositories have a tag for each release, and the release we are like. */
const RELEASE = { organization: "furiosa-ai/", tag: "v2026.1" } as const;
/** Most bytes of an index or another small file, as many as the loader reads. */
const SMALL_SIZE_MAX_BYTES = 256 * 1024 * 1024;

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
  const path = expandHome(name, environment);
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
  const progress = new Progress(options.onProgress);
  const onBytes = (blob: string, done: number) => progress.set(blob, done);
  const job: DownloadJob = { client, cache, listing, times, signal, onBytes };
  try {
    await cache.prepare();
    await downloadModel(job, weights, progress);
    await cache.writeRef(listing.revision, listing.commit);
  } catch (error) {
    // A full disk, a folder that may not be written: the system's words, and whose they are.
    if (!(error instanceof Error) || !/\(os error \d+\)/.test(error.message)) throw error;
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

/** Weights come last: a folder that has them has everything, and a wrong config costs no weights. */
async function downloadModel(
  job: DownloadJob,
  weights: HubWeights,
  progress: Progress,
): Promise<void> {
  const { cache, listing } = job;
  if (weights.kind === "gguf") {
    progress.expect([weights.file]);
    return await downloadAll(job, [weights.file]);
  }
  const small = chooseSmallFiles(listing);
  if (weights.kind === "sharded") small.push(weights.index);
  for (const { name, sizeBytes } of small) {
    if (!name.endsWith(".safetensors") && sizeBytes > SMALL_SIZE_MAX_BYTES) {
      throw new CheckpointError(
        name,
        `Cannot load "${listing.id}": its "${name}" has ${sizeBytes} bytes, ` +
          `at most ${SMALL_SIZE_MAX_BYTES} can be read`,
      );
    }
  }
  if (weights.kind === "sharded") await downloadAll(job, [weights.index]);
  const folder = cache.snapshot(listing.commit);
  const large = weights.kind === "single"
    ? [weights.file]
    : shardsOf(listing, folder, weights.index);
  progress.expect([...small, ...large]);
  await downloadAll(job, small);
  const files = new ModelFolder(folder);
  readModelConfig(files.nameOf("config.json"), files.readJson("config.json"));
  await downloadAll(job, large);
}

/** The files that an index names, all of which the hub must have. */
function shardsOf(listing: HubListing, folder: string, index: HubFile): HubFile[] {
  const json = new ModelFolder(folder).readJson(index.name);
  const map = isObject(json) ? json["weight_map"] : undefined;
  const names = new Set(isObject(map) ? Object.values(map) : []);
  const files = [...names].map((name) =>
    typeof name === "string" && /^[^/]+\.safetensors$/.test(name)
      ? listing.files.get(name)
      : undefined
  );
  if (files.length > 0 && files.every((file) => file !== undefined)) return files;
  const wrong = [...names][files.indexOf(undefined)];
  throw new CheckpointError(
    index.name,
    `Cannot load "${listing.id}" at revision "${listing.revision}": its "${index.name}" names ` +
      (files.length === 0 ? "no files" : `${JSON.stringify(wrong)}, which the hub does not list`),
  );
}

/** Adds up the bytes of all files. What is told never goes back, also where a file starts again. */
class Progress {
  readonly #tell: ((done: number, total: number) => void) | undefined;
  readonly #done = new Map<string, number>();
  #total: number | undefined;
  #told = -1;

  constructor(tell: ResolveOptions["onProgress"]) {
    this.#tell = tell;
  }

  /** Says how much there is; nothing is told before. */
  expect(files: readonly HubFile[]): void {
    const sizes = new Map(files.map(({ blob, sizeBytes }) => [blob, sizeBytes]));
    this.#total = sizes.values().reduce((sum, size) => sum + size, 0);
    this.#update();
  }

  set(blob: string, done: number): void {
    this.#done.set(blob, done);
    this.#update();
  }

  #update(): void {
    if (this.#total === undefined) return;
    const done = this.#done.values().reduce((sum, size) => sum + size, 0);
    if (done <= this.#told) return;
    this.#told = done;
    this.#tell?.(done, this.#total);
  }
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
