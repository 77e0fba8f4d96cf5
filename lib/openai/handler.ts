/**
 * The HTTP side of the library: an OpenAI-compatible handler for a loaded model.
 *
 * @example
 * ```ts ignore
 * import { LLM } from "@rngd/llm";
 * import { handler } from "@rngd/llm/openai";
 *
 * await using llm = await LLM.load("./models/SmolLM2-135M-Instruct.Q4_1.gguf");
 * const server = Deno.serve({ port: 8000 }, handler(llm));
 * await server.finished;
 * ```
 *
 * @module
 */

import { STATUS_CODE, STATUS_TEXT } from "@std/http/status";
import { keyCheck } from "./api_keys.ts";
import {
  mayBeRepeated,
  randomHex,
  type ReceivedRequest,
  type RouteContext,
  type ServedModel,
  type Settings,
} from "./context.ts";
import { type CorsRules, preflight, withCors } from "./cors.ts";
import { errorResponse, HttpError, show, toHttpError } from "./errors.ts";
import { ServerLoad } from "./load.ts";
import { RequestCounts } from "./request_counts.ts";
import { reachable, type Route } from "./routes.ts";
import { checkServedTask } from "./served_task.ts";
import { VERSION } from "./version.ts";

export type { ReceivedRequest, ServedModel };
export { VERSION };

/** What {@linkcode handler} takes besides the model. */
export interface HandlerOptions {
  /** Names the model answers to; the first is written into answers. Default: the model's id. */
  readonly servedModelNames?: readonly string[];
  /** Keys of which a client must send one as `Authorization: Bearer`. Default: none is needed. */
  readonly apiKeys?: readonly string[];
  /** Refuse a request that names another model with 404. Default false: any name will do. */
  readonly strictModel?: boolean;
  /** Origins whose pages may read answers. Default `["*"]`. */
  readonly allowedOrigins?: readonly string[];
  /** HTTP methods that pages of other origins may use. Default `["*"]`: those a route has. */
  readonly allowedMethods?: readonly string[];
  /** Headers that pages of other origins may send. Default `["*"]`. */
  readonly allowedHeaders?: readonly string[];
  /** Let pages of other origins send cookies. Default false. */
  readonly allowCredentials?: boolean;
  /**
   * A path such as `"/llm"` that a proxy puts before the API's own; requests are answered with it
   * and without it. Default none.
   */
  readonly rootPath?: string;
  /**
   * Give every answer an `X-Request-Id`: the request's, else 32 hexadecimal digits. Default false:
   * only those whose request had one.
   */
  readonly requestIdHeaders?: boolean;
  /** Largest request body in bytes. Default 33,554,432 (32 MiB). */
  readonly bodySizeLimit?: number;
  /** Most log-probabilities a request may ask for a token; −1: any number. Default 20. */
  readonly maxLogprobs?: number;
  /** `system_fingerprint` of answers. Default: this package's version and the model's fingerprint. */
  readonly systemFingerprint?: string;
  /** How much of the default `system_fingerprint` is said: all, the hash, or null. Default "full". */
  readonly fingerprintMode?: "full" | "hash" | "none";
  /** The role of answers. Default `"assistant"`. */
  readonly responseRole?: string;
  /** Variables of the chat template where a request does not set them. Default none. */
  readonly defaultChatTemplateKwargs?: Readonly<Record<string, unknown>>;
  /** Tokens a chunk of a stream where a request does not say. Default 1. */
  readonly streamInterval?: number;
  /** End every stream with its token counts, also where a request does not ask. Default false. */
  readonly forceIncludeUsage?: boolean;
  /** Write tokens as `token_id:ID` where a request does not choose. Default false. */
  readonly returnTokensAsTokenIds?: boolean;
  /** Let requests bring their own `chat_template`. Default false. */
  readonly trustRequestChatTemplate?: boolean;
  /** Open the routes that are for development: `/reset_prefix_cache`. Default false. */
  readonly devMode?: boolean;
  /** Open `/openapi.json`, which describes the routes. Default true. */
  readonly apiDocument?: boolean;
  /** Told of every request with a JSON body once that is read, before its fields are checked. */
  readonly onRequest?: (received: ReceivedRequest) => void;
  /** Told of every failure that clients only see as "Internal server error". */
  readonly onError?: (error: unknown) => void;
}

/**
 * Makes the request handler of an OpenAI-compatible server.
 *
 * It needs no socket: any server that passes on a `Request` will do, and so will a test. A client
 * that leaves ends its generation, before and after the first event.
 *
 * @param llm the model; the handler neither loads nor closes it
 * @param options names, keys and limits
 * @returns a function from request to response; it never throws
 * @throws {RangeError} a `rootPath` that does not begin with a slash
 */
export function handler(
  llm: ServedModel,
  options: HandlerOptions = {},
): (request: Request) => Promise<Response> {
  const cors: CorsRules = {
    origins: options.allowedOrigins ?? ["*"],
    methods: options.allowedMethods ?? ["*"],
    headers: options.allowedHeaders ?? ["*"],
    credentials: options.allowCredentials ?? false,
  };
  const mayEnter = keyCheck(options.apiKeys ?? []);
  const settings = fillIn(options, llm);
  const server: Server = {
    llm,
    settings,
    cors,
    mayEnter,
    routes: reachable(settings),
    load: new ServerLoad(),
  };
  return async (request) => {
    const id = randomHex();
    let response: Response;
    try {
      response = await answer(request, id, server);
    } catch (error) {
      settings.onError(error);
      const [servedName] = settings.servedModelNames;
      response = errorResponse(toHttpError(error, { id: llm.info.id, servedName }));
    }
    const path = routePath(request, server);
    settings.requestCounts.count(request.method, response.status, path);
    const given = request.headers.get("x-request-id") ?? "";
    const own = options.requestIdHeaders ? id : "";
    const requestId = mayBeRepeated(given) ? given || own : own;
    if (requestId !== "") response.headers.set("x-request-id", requestId);
    return withCors(response, request, cors);
  };
}

function fillIn(options: HandlerOptions, llm: ServedModel): Settings {
  const [name = llm.info.id, ...aliases] = options.servedModelNames ?? [];
  const report = options.onError ?? (() => {});
  return {
    servedModelNames: [name, ...aliases],
    bodySizeLimit: options.bodySizeLimit ?? 32 * 2 ** 20,
    maxLogprobs: options.maxLogprobs ?? 20,
    // Asked each time: it changes if a kernel turns out wrong and another computes in its place.
    get systemFingerprint() {
      return options.systemFingerprint ?? defaultFingerprint(llm, options.fingerprintMode);
    },
    responseRole: options.responseRole ?? "assistant",
    trustRequestChatTemplate: options.trustRequestChatTemplate ?? false,
    strictModel: options.strictModel ?? false,
    defaultChatTemplateKwargs: options.defaultChatTemplateKwargs ?? {},
    streamInterval: options.streamInterval ?? 1,
    forceIncludeUsage: options.forceIncludeUsage ?? false,
    returnTokensAsTokenIds: options.returnTokensAsTokenIds ?? false,
    rootPath: checkedRootPath(options.rootPath ?? ""),
    onRequest: options.onRequest,
    devMode: options.devMode ?? false,
    apiDocument: options.apiDocument ?? true,
    needsKey: (options.apiKeys ?? []).some((key) => key !== ""),
    startedAt: Math.floor(Date.now() / 1000),
    requestCounts: new RequestCounts(),
    onError: (error) => {
      if (toHttpError(error).status === STATUS_CODE.InternalServerError) report(error);
    },
  };
}

function defaultFingerprint(
  { info: { fingerprint } }: ServedModel,
  mode: HandlerOptions["fingerprintMode"] = "full",
): string | null {
  if (mode === "none") return null;
  return mode === "hash" ? fingerprint : `rngd-llm-${VERSION}-${fingerprint}`;
}

/** Without the slash at its end, which means nothing. */
function checkedRootPath(rootPath: string): string {
  if (rootPath === "" || rootPath.startsWith("/")) return rootPath.replace(/\/+$/, "");
  throw new RangeError(`Cannot use rootPath "${rootPath}": it must begin with a slash`);
}

/** What all requests share. */
interface Server {
  readonly llm: ServedModel;
  readonly settings: Settings;
  readonly cors: CorsRules;
  readonly mayEnter: (request: Request) => Promise<boolean>;
  readonly routes: readonly Route[];
  readonly load: ServerLoad;
}

async function answer(request: Request, id: string, server: Server): Promise<Response> {
  const path = pathOf(request, server.settings.rootPath);
  if (path === undefined) {
    throw new HttpError(
      STATUS_CODE.BadRequest,
      `Cannot use ${show(request.url)} as an address: the Host header must name a host`,
    );
  }
  const routes = server.routes.filter((route) => matches(route, path));
  const methods = allowed(routes);
  if (request.method === "OPTIONS") return preflight(request, methods, server.cors);
  if (!routes.some((route) => route.open) && !await server.mayEnter(request)) {
    throw new HttpError(STATUS_CODE.Unauthorized, STATUS_TEXT[STATUS_CODE.Unauthorized], {
      headers: { "www-authenticate": "Bearer" },
    });
  }
  if (routes.length === 0) {
    throw new HttpError(STATUS_CODE.NotFound, `Not Found: there is no route ${path}`);
  }
  const method = request.method === "HEAD" ? "GET" : request.method;
  const route = routes.find((route) => route.method === method);
  if (route === undefined) {
    throw new HttpError(
      STATUS_CODE.MethodNotAllowed,
      `Method Not Allowed: ${path} takes ${methods.join(", ")}, not ${request.method}`,
      { headers: { allow: methods.join(", ") } },
    );
  }
  const response = await run(route, request, { id, path }, server);
  if (request.method !== "HEAD") return response;
  response.headers.set("content-length", `${(await response.arrayBuffer()).byteLength}`);
  return new Response(null, { status: response.status, headers: response.headers });
}

/**
 * Without what a proxy put before it, and without the slashes at its end; undefined where the host
 * that the client names is none.
 */
function pathOf(request: Request, rootPath: string): string | undefined {
  const pathname = URL.parse(request.url)?.pathname;
  if (pathname === undefined) return undefined;
  const isBelow = rootPath !== "" && (pathname === rootPath || pathname.startsWith(`${rootPath}/`));
  const path = isBelow ? pathname.slice(rootPath.length) || "/" : pathname;
  return path.length > 1 ? path.replace(/\/+$/, "") : path;
}

/** The route of a request as the table spells it, so that no client can make up new ones. */
function routePath(request: Request, { routes, settings }: Server): string | undefined {
  const path = pathOf(request, settings.rootPath);
  return path === undefined ? undefined : routes.find((route) => matches(route, path))?.path;
}

function matches(route: Route, path: string): boolean {
  if (route.coversBelow && path.startsWith(`${route.path}/`)) return true;
  if (!route.path.endsWith("*")) return route.path === path;
  return path.startsWith(route.path.slice(0, -1));
}

function allowed(routes: readonly Route[]): string[] {
  const methods = routes.flatMap(({ method }) => method === "GET" ? ["GET", "HEAD"] : [method]);
  return [...new Set([...methods, "OPTIONS"])];
}

/**
 * Runs a route, and aborts its generation when the client leaves. While the answer is prepared
 * only the request's signal can tell; once a stream is returned, only its body's `cancel` does,
 * since the signal also fires after a success.
 */
async function run(
  route: Route,
  request: Request,
  { id, path }: { readonly id: string; readonly path: string },
  { llm, settings, load }: Server,
): Promise<Response> {
  const controller = new AbortController();
  const leave = () => controller.abort(new DOMException("The client has left", "AbortError"));
  const exit = route.task === undefined ? () => {} : load.enter();
  let isStreamed = false;
  const context: RouteContext = {
    llm,
    settings,
    request,
    id,
    rest: path.slice(route.path.length - 1),
    signal: controller.signal,
    hooks: {
      onStart: () => isStreamed = true,
      onLeave: leave,
      onError: settings.onError,
      onEnd: exit,
    },
    load,
  };
  if (route.method === "GET") return await route.run(context);

  if (request.signal.aborted) leave();
  request.signal.addEventListener("abort", leave);
  try {
    if (route.task !== undefined) checkServedTask(route.task, llm.info);
    return await route.run(context);
  } catch (error) {
    const gone = controller.signal.aborted;
    leave(); // the other prompts of a batch
    if (gone) return new Response(null, { status: 499 }); // nobody reads it
    throw error;
  } finally {
    request.signal.removeEventListener("abort", leave);
    if (!isStreamed) exit();
  }
}
