/** From a listing to a folder that can be loaded: which files, in which order. */

import { CheckpointError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";
import { readModelConfig } from "./config.ts";
import { chooseSmallFiles, type HubWeights } from "./hub_choice.ts";
import { downloadAll, type DownloadJob } from "./hub_download.ts";
import { fetchHeaders } from "./hub_headers.ts";
import type { HubFile, HubListing } from "./hub_listing.ts";
import type { DownloadProgress } from "./hub_progress.ts";
import { ModelFolder } from "./model_folder.ts";

/** Most bytes of an index or another small file, as many as the loader reads. */
const SMALL_SIZE_MAX_BYTES = 256 * 1024 * 1024;

/** Weights come last: a folder that has them has everything, and a wrong config costs no weights. */
export async function downloadModel(
  job: DownloadJob,
  weights: HubWeights,
  progress: DownloadProgress,
): Promise<void> {
  if (weights.kind === "gguf") {
    progress.expect([weights.file]);
    return await downloadAll(job, [weights.file]);
  }
  const { small, large } = await chooseFiles(job, weights);
  progress.expect([...small, ...large]);
  await downloadSmall(job, small);
  await downloadAll(job, large);
}

/** The same for looking at it: the headers of the weights alone, with the small files, in `folder`. */
export async function downloadHeaders(
  job: DownloadJob,
  weights: SafetensorsWeights,
  { progress, folder }: { readonly progress: DownloadProgress; readonly folder: string },
): Promise<void> {
  const { small, large } = await chooseFiles(job, weights);
  progress.expect(small);
  await downloadSmall(job, small);
  await fetchHeaders(job, { small, large }, folder);
}

type SafetensorsWeights = Exclude<HubWeights, { readonly kind: "gguf" }>;

/** The files beside the weights, and those of the weights, for which an index is downloaded. */
async function chooseFiles(
  job: DownloadJob,
  weights: SafetensorsWeights,
): Promise<{ readonly small: HubFile[]; readonly large: HubFile[] }> {
  const { cache, listing } = job;
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
  return { small, large };
}

/** A config of a model that cannot be loaded ends the download. */
async function downloadSmall(job: DownloadJob, small: readonly HubFile[]): Promise<void> {
  await downloadAll(job, small);
  const files = new ModelFolder(job.cache.snapshot(job.listing.commit));
  readModelConfig(files.nameOf("config.json"), files.readJson("config.json"));
}

/** The files that an index names, all of which the hub must have. */
function shardsOf(listing: HubListing, folder: string, index: HubFile): HubFile[] {
  const json = new ModelFolder(folder).readJson(index.name);
  const map = isRecord(json) ? json["weight_map"] : undefined;
  const names = new Set(isRecord(map) ? Object.values(map) : []);
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
