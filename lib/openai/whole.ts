/** Deltas → one JSON body, sent so that a client that leaves is noticed while it is being written. */

import type { StreamHooks } from "./sse.ts";
import { writeJson } from "./json.ts";

/**
 * Waits for the first delta, so that what fails before it is a plain HTTP error; then answers 200
 * with a body that comes when the answer is complete.
 *
 * The head goes out early because `Deno.serve` does not always tell of a client that leaves before
 * it: with a request body of more than a few hundred bytes the request's signal stays silent, while
 * the response body's `cancel` never does. The price: a failure in the middle of an answer can no
 * longer become a status, so it breaks the connection off.
 */
export async function wholeResponse<Delta>(
  deltas: AsyncGenerator<Delta, void, void>,
  fold: (deltas: AsyncIterable<Delta>) => Promise<object>,
  hooks: StreamHooks,
): Promise<Response> {
  const first = await deltas.next();
  let left = false;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const answer = await fold(putBack(first, deltas));
        if (left) return;
        controller.enqueue(new TextEncoder().encode(writeJson(answer)));
        controller.close();
        hooks.onEnd();
      } catch (error) {
        if (left) return;
        hooks.onError(error);
        hooks.onEnd();
        controller.error(error);
      }
    },
    async cancel() {
      left = true;
      hooks.onLeave();
      hooks.onEnd();
      await deltas.return().catch(() => {});
    },
  }, { highWaterMark: 0 });
  hooks.onStart();
  return new Response(body, { headers: { "content-type": "application/json" } });
}

async function* putBack<Delta>(
  first: IteratorResult<Delta, void>,
  rest: AsyncGenerator<Delta, void, void>,
): AsyncGenerator<Delta, void, void> {
  if (first.done) return;
  yield first.value;
  yield* rest;
}
