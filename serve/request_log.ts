/** Lines about requests: who asked what and with which status, what was asked, and whole bodies as JSON. */

import type { LogSettings } from "./settings.ts";
import type { Terminal } from "./terminal.ts";

/** A request to the model, as the handler tells of it once its body is read. */
export interface Received {
  readonly request: Request;
  readonly id: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** The part of a connection's facts that is logged. */
export interface Connection {
  readonly remoteAddr: Deno.Addr;
}

/** Where the lines go. */
export interface LogWriters {
  readonly terminal: Terminal;
  /** Writes one line to standard output. */
  readonly print: (line: string) => void;
}

/** Fields that hold what people write, in place of how it is answered. */
const CONTENT_FIELDS: readonly string[] = [
  "messages",
  "prompt",
  "input",
  "query",
  "documents",
  "text_1",
  "text_2",
  "queries",
  "items",
  "tokens",
];

/** Logs requests around a handler. */
export class RequestLog {
  readonly #settings: LogSettings;
  readonly #writers: LogWriters;
  /** What requests hold that are being answered; with the request it is forgotten. */
  readonly #bodies = new WeakMap<Request, unknown>();

  constructor(settings: LogSettings, writers: LogWriters) {
    this.#settings = settings;
    this.#writers = writers;
  }

  /** The handler's hook: undefined where nothing is to be written of what is asked. */
  get onRequest(): ((received: Received) => void) | undefined {
    const { requests, payloads } = this.#settings;
    if (!requests && !payloads) return undefined;
    return (received) => {
      if (payloads) this.#bodies.set(received.request, received.body);
      if (requests) this.#writeRequest(received);
    };
  }

  /** A handler that does the same, and of whose answers lines are written. */
  around(
    answer: (request: Request) => Promise<Response>,
  ): (request: Request, connection: Connection) => Promise<Response> {
    const { access, payloads } = this.#settings;
    if (!access && !payloads) return answer;
    return async (request, connection) => {
      const arrivedAt = new Date();
      const response = await answer(request);
      const remote = remoteName(connection.remoteAddr);
      if (access) this.#writeAccess(request, remote, response.status);
      if (payloads) this.#writePayload(request, remote, response.status, arrivedAt);
      return response;
    };
  }

  #writeAccess(request: Request, remote: string, status: number): void {
    const { pathname } = addressOf(request);
    if (this.#settings.accessExcept.includes(pathname)) return;
    const line = `${remote} - "${request.method} ${pathname}" ${status}`;
    // An error is written at every level, as Furiosa-LLM does.
    this.#writers.terminal.say(line, status >= 400 ? "critical" : "info");
  }

  /** Headers stay out, and so does the query: both are places for secrets. */
  #writePayload(request: Request, remote: string, status: number, arrivedAt: Date): void {
    const { origin, pathname } = addressOf(request);
    const now = new Date().toISOString();
    this.#writers.print(printable({
      timestamp: now,
      message: "request",
      req: {
        timestamp: arrivedAt.toISOString(),
        method: request.method,
        url: `${origin}${pathname}`,
        ["remote_addr"]: remote,
        payload: this.#bodies.get(request) ?? null,
      },
      res: { timestamp: now, ["status_code"]: status },
    }));
  }

  #writeRequest({ request, id, body }: Received): void {
    const { terminal } = this.#writers;
    const entries = Object.entries(body);
    const isContent = ([name]: [string, unknown]) => CONTENT_FIELDS.includes(name);
    const params = entries.filter((entry) => !isContent(entry));
    const { pathname } = addressOf(request);
    const name = id.replaceAll(/\p{Cc}/gu, "?"); // a body may name it: it must not end the line
    terminal.say(
      `Request ${name}: ${request.method} ${pathname} ${this.#cut(Object.fromEntries(params))}`,
    );
    if (!terminal.shows("debug")) return;
    const content = Object.fromEntries(entries.filter(isContent));
    terminal.say(`Request ${name} asks: ${this.#cut(content)}`, "debug");
  }

  #cut(value: unknown): string {
    const text = printable(value);
    const { lengthMax } = this.#settings;
    return text.length > lengthMax ? `${text.slice(0, lengthMax)}…` : text;
  }
}

/** JSON as one line that commands no terminal: it leaves some control characters as they are. */
function printable(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\u007f-\u009f\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** Where a request went, without its query. A host that is none is not worth a line of its own. */
function addressOf(request: Request): { readonly origin: string; readonly pathname: string } {
  const { origin, pathname } = URL.parse(request.url) ?? { origin: "", pathname: "-" };
  return { origin: origin === "null" ? "" : origin, pathname }; // as it is on a Unix socket
}

function remoteName(address: Deno.Addr): string {
  if (!("hostname" in address)) return "unix";
  const { hostname, port } = address;
  return `${hostname.includes(":") ? `[${hostname}]` : hostname}:${port}`;
}
