/** What the hub says is in a repository at a commit, checked: nothing in it may be trusted. */

import { DownloadError } from "../base/errors.ts";
import { isRecord } from "../base/record.ts";
import { isHubId, isSafeFileName } from "./hub_name.ts";

/** One file of a repository. */
export interface HubFile {
  /** Its path in the repository, with `/`. */
  readonly name: string;
  readonly sizeBytes: number;
  /**
   * Its name among the blobs, which is its etag too: the SHA-256 of a large file's content, the
   * SHA-1 that git gives a small one.
   */
  readonly blob: string;
}

/** A repository at one commit. */
export interface HubListing {
  /** As it was asked for; the hub may know it by a newer one. */
  readonly id: string;
  readonly revision: string;
  readonly commit: string;
  readonly files: ReadonlyMap<string, HubFile>;
  /** The model that its card says it was made from. */
  readonly baseModel: string | undefined;
}

/** A thousand times the largest file there is: beyond it a size is no size. */
const FILE_SIZE_MAX_BYTES = 2 ** 50;

/** Reads the answer to `/api/models/{id}/revision/{revision}?blobs=true`. */
export function readListing(json: unknown, id: string, revision: string): HubListing {
  const refuse = (what: string): never => {
    throw new DownloadError(
      id,
      `Cannot use what the hub says about "${id}" at revision "${revision}": ${what}`,
    );
  };
  if (!isRecord(json)) return refuse("it must be a JSON object");
  const { sha: commit, siblings } = json;
  if (typeof commit !== "string" || !/^[0-9a-f]{40}$/.test(commit)) {
    return refuse(`its commit is ${shown(commit)}`);
  }
  if (!Array.isArray(siblings)) return refuse("it lists no files");
  const files = new Map<string, HubFile>();
  for (const sibling of siblings) {
    if (!isRecord(sibling)) return refuse("an entry of its files is no object");
    const { rfilename: name, size, blobId, lfs } = sibling;
    if (typeof name !== "string" || !isSafeFileName(name)) {
      return refuse(`it names a file ${shown(name)}, which leads elsewhere`);
    }
    const [sizeBytes, blob] = isRecord(lfs) ? [lfs["size"], lfs["sha256"]] : [size, blobId];
    const pattern = isRecord(lfs) ? /^[0-9a-f]{64}$/ : /^[0-9a-f]{40}$/;
    if (typeof blob !== "string" || !pattern.test(blob)) {
      return refuse(`the hash of "${name}" is ${shown(blob)}`);
    }
    const isSize = typeof sizeBytes === "number" && Number.isSafeInteger(sizeBytes) &&
      sizeBytes >= 0 && sizeBytes <= FILE_SIZE_MAX_BYTES;
    if (!isSize) return refuse(`the size of "${name}" is ${shown(sizeBytes)}`);
    files.set(name, { name, sizeBytes, blob });
  }
  return { id, revision, commit, files, baseModel: readBaseModel(json) };
}

function readBaseModel({ cardData }: Readonly<Record<string, unknown>>): string | undefined {
  const value = isRecord(cardData) ? cardData["base_model"] : undefined;
  const first: unknown = Array.isArray(value) ? value[0] : value;
  return typeof first === "string" && isHubId(first) ? first : undefined;
}

/** A value of theirs as a message may show it: short, and without control characters. */
function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length <= 80 ? text : `${text.slice(0, 80)}…`;
}
