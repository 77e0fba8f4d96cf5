/**
 * Talks to the hub: asks what a repository holds, and for files.
 *
 * ```text
 * GET /api/models/{id}/revision/{revision}?blobs=true   names, sizes and hashes
 * GET /{id}/resolve/{commit}/{file}                     content, or a redirect to where it lies
 * ```
 */

import { DownloadError } from "../base/errors.ts";
import { type HubFile, type HubListing, readListing } from "./hub_listing.ts";
import { checkStatus } from "./hub_status.ts";
import { clean, Watch } from "./hub_watch.ts";

/** Who asks whom. */
export interface HubClientOptions {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly token: string | undefined;
  /** How long nothing may arrive before a connection counts as dead. */
  readonly stallMs: number;
}

/** The content of a file from some byte on. */
export interface HubContent {
  /** The first byte's place in the file: what was asked for, or 0. */
  readonly start: number;
  readonly chunks: AsyncIterable<Uint8Array<ArrayBuffer>>;
}

/** Repositories with a hundred thousand files have 20 MB of them. */
const JSON_SIZE_MAX_BYTES = 64 * 1024 * 1024;
const REDIRECTS_MAX = 10;

/** See the file's header. One failure is one exception: trying again is the caller's. */
export class HubClient {
  readonly #options: HubClientOptions;
  readonly #origin: string;

  constructor(options: HubClientOptions) {
    this.#options = options;
    this.#origin = new URL(options.endpoint).origin;
  }

  /**
   * What a repository holds at a revision.
   *
   * @throws {TransientError} Trying again may help.
   * @throws {ModelNotFoundError} There is no such repository or revision, or it may not be read.
   * @throws {DownloadError} The answer cannot be used.
   */
  async list(id: string, revision: string, signal: AbortSignal): Promise<HubListing> {
    using watch = new Watch(this.#options.stallMs, signal);
    const path = `/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`;
    const { response } = await this.#get(path, {}, id, watch);
    await checkStatus(response, { id, revision, hasToken: this.#options.token !== undefined });
    const text = await this.#readText(response, id, watch);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (error) {
      throw new DownloadError(
        id,
        `Cannot use what ${this.#options.endpoint} says about "${id}": it must be JSON and is ` +
          `${response.headers.get("content-type") ?? "something else"}; ` +
          "is a proxy or a log-in page in between?",
        { cause: error },
      );
    }
    return readListing(json, id, revision);
  }

  /**
   * Opens a file. Who reads the chunks, which somebody must, checks their hash; here the hub is
   * held to what it said before.
   *
   * @throws {TransientError} Trying again may help.
   */
  async open(
    listing: HubListing,
    file: HubFile,
    offset: number,
    signal: AbortSignal,
  ): Promise<HubContent> {
    const { id, revision, commit } = listing;
    const watch = new Watch(this.#options.stallMs, signal);
    try {
      const name = file.name.split("/").map(encodeURIComponent).join("/");
      const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
      const answer = await this.#get(`/${id}/resolve/${commit}/${name}`, range, id, watch);
      const { response } = answer;
      if (response.status === 416) {
        // What is here already may be of another file: the whole one cannot be refused.
        await response.body?.cancel();
        if (offset > 0) {
          watch[Symbol.dispose]();
          return await this.open(listing, file, 0, signal);
        }
      }
      const hasToken = this.#options.token !== undefined;
      await checkStatus(response, { id, revision, file: file.name, hasToken });
      const problem = problemOf(answer, commit, file, offset);
      if (problem !== undefined) {
        await response.body?.cancel();
        throw new DownloadError(
          id,
          `Cannot download "${file.name}" of "${id}" at revision "${revision}": ${problem}`,
        );
      }
      const start = response.status === 206 ? offset : 0;
      return { start, chunks: watch.read(response.body) };
    } catch (error) {
      watch[Symbol.dispose]();
      throw error;
    }
  }

  /** Follows redirects by hand: the token is for the hub alone, wherever its files lie. */
  async #get(
    path: string,
    headers: Readonly<Record<string, string>>,
    id: string,
    watch: Watch,
  ): Promise<Answer> {
    const { endpoint, token } = this.#options;
    let url = new URL(endpoint + path);
    let etag: string | null = null;
    let commit: string | null = null;
    for (let hop = 0; hop <= REDIRECTS_MAX; hop++) {
      const isHub = url.origin === this.#origin;
      const response = await watch.fetch(url, {
        // Lengths and ranges are those of the file only where nothing is compressed on the way.
        "accept-encoding": "identity",
        ...headers,
        ...(token !== undefined && isHub ? { authorization: `Bearer ${token}` } : {}),
      });
      if (isHub) {
        etag ??= response.headers.get("x-linked-etag");
        commit ??= response.headers.get("x-repo-commit");
      }
      const location = response.headers.get("location");
      if (![301, 302, 303, 307, 308].includes(response.status) || location === null) {
        // Elsewhere an etag is whatever the store uses.
        if (isHub) etag ??= response.headers.get("etag");
        return { response, etag, commit };
      }
      await response.body?.cancel();
      const next = URL.parse(location, url);
      const isSafe = next !== null &&
        (next.protocol === "https:" || (next.protocol === "http:" && url.protocol === "http:"));
      if (!isSafe) {
        throw new DownloadError(
          id,
          `Cannot download "${id}": ${url.host} redirects to no safe place`,
        );
      }
      url = next;
    }
    throw new DownloadError(
      id,
      `Cannot download "${id}": ${url.host} redirects more than ${REDIRECTS_MAX} times`,
    );
  }

  async #readText(response: Response, id: string, watch: Watch): Promise<string> {
    const decoder = new TextDecoder();
    let text = "";
    let size = 0;
    for await (const chunk of watch.read(response.body)) {
      size += chunk.byteLength;
      if (size > JSON_SIZE_MAX_BYTES) {
        throw new DownloadError(
          id,
          `Cannot use what ${this.#options.endpoint} says about "${id}": it is longer than ` +
            `${JSON_SIZE_MAX_BYTES} bytes`,
        );
      }
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  }
}

interface Answer {
  readonly response: Response;
  /** What the hub itself says; null where it says nothing. */
  readonly etag: string | null;
  readonly commit: string | null;
}

/** How an answer contradicts what the hub said before. */
function problemOf(
  { response, etag, commit: answered }: Answer,
  commit: string,
  file: HubFile,
  offset: number,
): string | undefined {
  const { status, headers } = response;
  if (answered !== null && answered !== commit) {
    return `the hub answers for commit ${clean(answered)} instead of ${commit}`;
  }
  const plain = etag?.replace(/^W\//, "").replaceAll('"', "");
  if (plain !== undefined && plain !== file.blob) {
    return `the hub answers with etag ${clean(plain)} instead of ${file.blob}`;
  }
  if (/^text\/html\b/i.test(headers.get("content-type") ?? "")) {
    return "the answer is a web page; is a proxy or a log-in page in between?";
  }
  if (status === 206) {
    const range = headers.get("content-range") ?? "";
    const [, start, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(range) ?? [];
    const isRight = Number(start) === offset && Number(total) === file.sizeBytes;
    return isRight ? undefined : `the answer has range "${clean(range)}" instead of ` +
      `bytes ${offset}-${file.sizeBytes - 1}/${file.sizeBytes}`;
  }
  const length = headers.get("content-length");
  return length === null || Number(length) === file.sizeBytes
    ? undefined
    : `the answer has ${clean(length)} bytes instead of ${file.sizeBytes}`;
}
