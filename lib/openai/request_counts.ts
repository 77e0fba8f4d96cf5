/** How many requests were answered, by route, method and kind of status. */

/** One cell of the count. */
export interface RequestCount {
  readonly method: string;
  /** `2xx`, `4xx`, … */
  readonly status: string;
  /** The path of the route; `none` where there is none. */
  readonly handler: string;
  readonly count: number;
}

/** What monitors ask for all the time says nothing of the load. */
const UNCOUNTED = ["/health", "/ping", "/version", "/load", "/metrics"];
/** A client may invent methods; they must not become new series. */
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** The answers of one handler. */
export class RequestCounts {
  readonly #counts = new Map<string, RequestCount & { count: number }>();

  /** Counts an answer. `path` is a route's, undefined for a path without one. */
  count(method: string, status: number, path: string | undefined): void {
    if (path !== undefined && UNCOUNTED.includes(path)) return;
    const cell = {
      method: METHODS.includes(method) ? method : "other",
      status: `${Math.floor(status / 100)}xx`,
      handler: path ?? "none",
      count: 0,
    };
    const key = `${cell.method} ${cell.status} ${cell.handler}`;
    const known = this.#counts.get(key) ?? cell;
    this.#counts.set(key, known);
    known.count++;
  }

  list(): RequestCount[] {
    return [...this.#counts.values()];
  }
}
