/**
 * A hub on loopback that speaks the real one's protocol, with a content store on a second port, and
 * that cuts, stalls and lies where a test tells it to.
 */

import { createHash } from "node:crypto";

/** One request that reached the hub or its store. */
export interface HubRequest {
  readonly host: "hub" | "store";
  readonly path: string;
  readonly token: string | null;
  readonly range: string | null;
}

/** A repository. */
export interface FakeRepository {
  readonly files: Readonly<Record<string, string | Uint8Array>>;
  /** Other revisions than `main` that stand at the commit. */
  readonly tags?: readonly string[];
  /** `main` does not exist. */
  readonly hasNoMain?: boolean;
  readonly cardData?: unknown;
  /** Only this token may read it. */
  readonly token?: string;
  /** Everybody sees it, but files need terms to be accepted. */
  readonly isGated?: boolean;
}

/** Answers instead of the hub, or the store; undefined leaves the answer to it. */
export type Trick = (
  request: HubRequest,
  honest: () => Response,
) => Response | Promise<Response> | undefined;

/** Files of this size and more lie in the store, as the real hub's large files do. */
const LARGE_SIZE_BYTES = 4096;

/** See the file's header. Dispose of it to close both ports. */
export class FakeHub implements AsyncDisposable {
  readonly commit = "0123456789abcdef0123456789abcdef01234567";
  readonly requests: HubRequest[] = [];
  /** What the hub lies about. */
  trick: Trick | undefined;
  readonly #repositories: Readonly<Record<string, FakeRepository>>;
  readonly #hub: Deno.HttpServer<Deno.NetAddr>;
  readonly #store: Deno.HttpServer<Deno.NetAddr>;
  /** Ends the answers that stall. */
  readonly #closing = new AbortController();

  constructor(repositories: Readonly<Record<string, FakeRepository>>) {
    this.#repositories = repositories;
    const serve = (host: HubRequest["host"]) =>
      Deno.serve({
        hostname: "127.0.0.1",
        port: 0,
        onListen() {},
        onError: () => new Response("failed", { status: 500 }),
      }, (request) => this.#receive(host, request));
    this.#hub = serve("hub");
    this.#store = serve("store");
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.#hub.addr.port}`;
  }

  get store(): string {
    return `http://127.0.0.1:${this.#store.addr.port}`;
  }

  /** The paths that were asked for, in order. */
  get paths(): string[] {
    return this.requests.map(({ path }) => path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all([this.#hub.shutdown(), this.#store.shutdown()]);
  }

  /** The first bytes of a response's body; then its connection is cut. */
  cut(response: Response, count: number): Response {
    return changed(response, async function* (bytes) {
      yield bytes.subarray(0, count);
      await new Promise((resolve) => setTimeout(resolve, 5));
      throw new Error("The connection is cut");
    });
  }

  /** The first bytes of a response's body; then nothing. */
  stall(response: Response, count: number): Response {
    const { signal } = this.#closing;
    return changed(response, async function* (bytes) {
      yield bytes.subarray(0, count);
      await new Promise((resolve) => signal.addEventListener("abort", resolve));
    });
  }

  async #receive(host: HubRequest["host"], { url, headers, body }: Request): Promise<Response> {
    await body?.cancel();
    const { pathname, search } = new URL(url);
    const request: HubRequest = {
      host,
      path: pathname + search,
      token: headers.get("authorization"),
      range: headers.get("range"),
    };
    this.requests.push(request);
    const honest = () =>
      host === "store" ? this.#fromStore(pathname, request.range) : this.#answer(pathname, request);
    return await this.trick?.(request, honest) ?? honest();
  }

  #answer(path: string, request: HubRequest): Response {
    const listing = /^\/api\/models\/([^/]+\/[^/]+)\/revision\/([^/]+)$/.exec(path);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(path);
    const [, id = "", revision = ""] = listing ?? file ?? [];
    const repository = this.#repositories[id];
    const given = request.token?.replace("Bearer ", "");
    const isAllowed = repository?.token === undefined || repository.token === given;
    if (repository === undefined || !(isAllowed || repository.isGated)) {
      return refusal(given === undefined ? 401 : 404, "RepoNotFound");
    }
    const known = [this.commit, ...(repository.tags ?? [])];
    if (!repository.hasNoMain) known.push("main");
    if (!known.includes(decodeURIComponent(revision))) return refusal(404, "RevisionNotFound");
    if (listing !== null) return this.#list(id, repository);
    if (!isAllowed) return refusal(given === undefined ? 401 : 403, "GatedRepo");
    const name = decodeURIComponent(file?.[3] ?? "");
    const content = bytesOf(repository.files[name]);
    if (content === undefined) return refusal(404, "EntryNotFound");
    const blob = blobOf(content);
    const common = { "x-repo-commit": this.commit };
    if (content.byteLength < LARGE_SIZE_BYTES) {
      return ranged(content, request.range, { ...common, etag: `"${blob}"` });
    }
    return new Response("Found. Redirecting", {
      status: 302,
      headers: {
        ...common,
        "x-linked-etag": `"${blob}"`,
        "x-linked-size": String(content.byteLength),
        location: `${this.store}/${blob}?signature=secret`,
      },
    });
  }

  #list(id: string, { files, cardData }: FakeRepository): Response {
    const siblings = Object.entries(files).map(([rfilename, value]) => {
      const content = bytesOf(value) ?? new Uint8Array();
      const size = content.byteLength;
      const blobId = gitHash(content);
      if (size < LARGE_SIZE_BYTES) return { rfilename, size, blobId };
      return { rfilename, size, blobId, lfs: { sha256: blobOf(content), size, pointerSize: 134 } };
    });
    return Response.json({ id, modelId: id, sha: this.commit, private: false, siblings, cardData });
  }

  #fromStore(path: string, range: string | null): Response {
    for (const { files } of Object.values(this.#repositories)) {
      for (const value of Object.values(files)) {
        const content = bytesOf(value) ?? new Uint8Array();
        // A store's own etag, which means nothing to anybody else.
        if (`/${blobOf(content)}` === path) return ranged(content, range, { etag: '"store-1"' });
      }
    }
    return new Response("no such object", { status: 403 });
  }
}

/** The name of a content among the blobs. */
export function blobOf(content: string | Uint8Array): string {
  const bytes = bytesOf(content) ?? new Uint8Array();
  return bytes.byteLength < LARGE_SIZE_BYTES
    ? gitHash(bytes)
    : createHash("sha256").update(bytes).digest("hex");
}

/** A content that is large enough for the store, the same for the same seed. */
export function largeContent(seed: number, size = 100_000): Uint8Array<ArrayBuffer> {
  let state = seed;
  return Uint8Array.from({ length: size }, () => {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    return state >>> 24;
  });
}

/** The files of a folder, by name. */
export function filesOf(folder: string): Record<string, Uint8Array> {
  const files = [...Deno.readDirSync(folder)].filter(({ isFile }) => isFile);
  return Object.fromEntries(
    files.map(({ name }) => [name, Deno.readFileSync(`${folder}/${name}`)]),
  );
}

function gitHash(content: Uint8Array): string {
  return createHash("sha1").update(`blob ${content.byteLength}\0`).update(content).digest("hex");
}

function bytesOf(value: string | Uint8Array | undefined): Uint8Array<ArrayBuffer> | undefined {
  if (value === undefined) return undefined;
  return typeof value === "string" ? new TextEncoder().encode(value) : value.slice();
}

function refusal(status: number, code: string): Response {
  return new Response(`{"error":"${code}"}`, { status, headers: { "x-error-code": code } });
}

function ranged(
  content: Uint8Array<ArrayBuffer>,
  range: string | null,
  headers: Record<string, string>,
): Response {
  const size = content.byteLength;
  const start = Number(/^bytes=(\d+)-$/.exec(range ?? "")?.[1] ?? 0);
  if (start >= size && size > 0) {
    return new Response(null, { status: 416, headers: { "content-range": `bytes */${size}` } });
  }
  const rest = content.subarray(start);
  return new Response(rest, {
    status: start > 0 ? 206 : 200,
    headers: {
      ...headers,
      "content-type": "application/octet-stream",
      "content-length": String(rest.byteLength),
      ...(start > 0 && { "content-range": `bytes ${start}-${size - 1}/${size}` }),
    },
  });
}

/** A response with the same head and another body. */
function changed(
  response: Response,
  body: (bytes: Uint8Array) => AsyncGenerator<Uint8Array, void, void>,
): Response {
  const { status, headers } = response;
  const stream = ReadableStream.from((async function* () {
    yield* body(new Uint8Array(await response.arrayBuffer()));
  })());
  return new Response(stream, { status, headers });
}
