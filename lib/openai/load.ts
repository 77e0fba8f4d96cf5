/** `GET /load`: how many requests for the model are being answered. */

import type { RouteContext } from "./context.ts";
import { jsonResponse } from "./json.ts";

/** Counts requests from their arrival to the end of their answer, or to the client's leaving. */
export class ServerLoad {
  #count = 0;

  /** Requests that are being answered. */
  get count(): number {
    return this.#count;
  }

  /** Lets a request in; the returned function lets it out, however often it is called. */
  enter(): () => void {
    this.#count++;
    let isInside = true;
    return () => {
      if (isInside) this.#count--;
      isInside = false;
    };
  }
}

/** Answers with the count. */
export function getLoad({ load }: RouteContext): Response {
  return jsonResponse({ server_load: load.count });
}
