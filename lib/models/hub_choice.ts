/** Which files of a repository are downloaded: those that the loader reads, and no others. */

import { CheckpointError } from "../base/errors.ts";
import type { HubFile, HubListing } from "./hub_listing.ts";
import type { GgufWish } from "./hub_name.ts";
import { upstreamOf } from "./hub_upstream.ts";

/** The weights of a repository. */
export type HubWeights =
  | { readonly kind: "gguf"; readonly file: HubFile }
  | { readonly kind: "single"; readonly file: HubFile }
  /** The index names the other files. */
  | { readonly kind: "sharded"; readonly index: HubFile };

/** The name of a file that holds all weights. */
export const SINGLE_FILE = "model.safetensors";
/** The name of the file that tells which others hold the weights. */
export const INDEX_FILE = "model.safetensors.index.json";
/** Without these no Hugging Face folder can be loaded. */
export const NEEDED_FILES: readonly string[] = ["config.json"];
/** One of these sets must be there whole: the tokenizer, in the order in which it is looked for. */
export const TOKENIZER_FILES: readonly (readonly string[])[] = [
  ["tokenizer.json"],
  ["vocab.txt"],
  ["vocab.json", "merges.txt"],
];

/** Small files that are taken where they are there. */
const OTHER_FILES: readonly string[] = [
  "generation_config.json",
  "tokenizer_config.json",
  "special_tokens_map.json",
  "added_tokens.json",
  "chat_template.jinja",
  "chat_template.json",
  // Of the sentence-transformers library: how an embedding model pools.
  "modules.json",
  "config_sentence_transformers.json",
  "sentence_bert_config.json",
];
/** `1_Pooling/config.json`, `2_Dense/model.safetensors`: the modules after the first. */
const MODULE_FILE = /^\d+_\w+\/(config\.json|model\.safetensors)$/;

/** A chat template with a name of its own. */
const TEMPLATE_FILE = /^additional_chat_templates\/[\w.-]+\.jinja$/;

/** Most names that a message lists. */
const LISTED_MAX = 12;

/** The files beside the weights. */
export function chooseSmallFiles(listing: HubListing): HubFile[] {
  for (const name of NEEDED_FILES) {
    if (!listing.files.has(name)) {
      throw new CheckpointError(name, `Cannot load ${describe(listing)}: it has no "${name}"`);
    }
  }
  const tokenizer = TOKENIZER_FILES.find((names) => names.every((name) => listing.files.has(name)));
  if (tokenizer === undefined) {
    throw new CheckpointError(
      "tokenizer.json",
      `Cannot load ${describe(listing)}: it has no "tokenizer.json", nor a vocab.txt or a ` +
        "vocab.json with its merges.txt that one could be made from",
    );
  }
  const names = new Set([...NEEDED_FILES, ...tokenizer, ...OTHER_FILES]);
  return [...listing.files.values()].filter(({ name }) =>
    names.has(name) || MODULE_FILE.test(name) || TEMPLATE_FILE.test(name)
  );
}

/**
 * The weights: safetensors before GGUF, unless the name says which GGUF file is meant.
 *
 * @throws {CheckpointError} There are none that could be loaded, or several to choose from.
 */
export function chooseWeights(listing: HubListing, wish: GgufWish | undefined): HubWeights {
  const { files } = listing;
  if (wish !== undefined) return { kind: "gguf", file: chooseGguf(listing, wish) };
  const index = files.get(INDEX_FILE);
  if (index !== undefined) return { kind: "sharded", index };
  const single = files.get(SINGLE_FILE);
  if (single !== undefined) return { kind: "single", file: single };
  if ([...files.keys()].some(isGguf)) return { kind: "gguf", file: chooseGguf(listing, undefined) };
  throw new CheckpointError(
    SINGLE_FILE,
    `Cannot load ${describe(listing)}: ${withoutWeights(listing)}`,
  );
}

/** Of several GGUF file names, those that a wish means. */
export function matchGguf(names: readonly string[], wish: GgufWish | undefined): string[] {
  const ggufs = names.filter(isGguf);
  if (wish === undefined) return ggufs;
  if (wish.kind === "file") return ggufs.filter((name) => name === wish.name);
  const end = `${wish.tag}.gguf`.toLowerCase();
  return ggufs.filter((name) => {
    const file = name.slice(name.lastIndexOf("/") + 1).toLowerCase();
    return file === end || (file.endsWith(end) && /[.\-_]/.test(file.at(-end.length - 1) ?? ""));
  });
}

function chooseGguf(listing: HubListing, wish: GgufWish | undefined): HubFile {
  const names = [...listing.files.keys()];
  const found = matchGguf(names, wish);
  const file = listing.files.get(found[0] ?? "");
  if (found.length === 1 && file !== undefined) return file;
  const all = found.length > 1 ? found : matchGguf(names, undefined);
  const what = found.length > 1
    ? `it holds ${found.length} GGUF files`
    : wish?.kind === "tag"
    ? `no GGUF file in it ends in "${wish.tag}"`
    : `it holds no GGUF file${wish === undefined ? "" : ` "${wish.name}"`} that is whole`;
  const advice = all.length === 0
    ? ""
    : `; name one of them, as "${listing.id}/${all.toSorted()[0]}": ${list(all)}`;
  throw new CheckpointError(".gguf", `Cannot load ${describe(listing)}: ${what}${advice}`);
}

/** A model of its own: no part of one, no vision tower, no calibration data. */
function isGguf(name: string): boolean {
  return /\.gguf$/i.test(name) && !/-\d{5}-of-\d{5}\.gguf$/i.test(name) &&
    !/(^|[/.-])(mmproj|imatrix)[^/]*$/i.test(name);
}

function withoutWeights(listing: HubListing): string {
  const names = [...listing.files.keys()];
  const upstream = upstreamOf(listing);
  const advice = upstream === undefined
    ? "name a repository that has safetensors or GGUF weights"
    : `load its upstream "${upstream}" instead`;
  const others = names.filter((name) => /\.(bin|pth?|onnx|h5|msgpack|safetensors)$/.test(name));
  const what = names.some((name) => /^(artifact|furiosa_config)\.json$|\.fxb$/.test(name))
    ? "it holds a compiled artifact and no Hugging Face weights"
    : others.length > 0
    ? `it has no "${SINGLE_FILE}", only ${list(others)}`
    : "it holds no weights";
  return `${what}; ${advice}`;
}

function describe({ id, revision }: HubListing): string {
  return `"${id}" at revision "${revision}"`;
}

function list(names: readonly string[]): string {
  const more = names.length - LISTED_MAX;
  return names.toSorted().slice(0, LISTED_MAX).join(", ") + (more > 0 ? ` and ${more} more` : "");
}
