/** One JSON body, sent so that a client that leaves is noticed while it is being made. */

import type { QueueWatch } from "./early_head.ts";
import { jsonResponse, writeJson } from "./json.ts";
import type { StreamHooks } from "./sse.ts";

/**
 * Deltas → one body. Waits for the first delta, so that what fails before it is a plain HTTP error;
 * then answers 200 with a body that comes when the answer is complete. The price: a failure in the
 * middle of an answer can no longer become a status, so it breaks the connection off.
 */
export async function wholeResponse<Delta>(
  deltas: AsyncGenerator<Delta, void, void>,
  fold: (deltas: AsyncIterable<Delta>) => Promise<object>,
  queue: QueueWatch,
  hooks: StreamHooks,
): Promise<Response> {
  const first = deltas.next();
  await queue.headTime(first);
  return lateResponse(() => fold(putBack(first, deltas)), () => deltas.return(), hooks);
}

/**
 * Waits for an answer that is made at once, and sends it as a plain body, or, if it takes long, the
 * head before it.
 */
export async function pooledResponse(
  answer: Promise<object>,
  queue: QueueWatch,
  hooks: StreamHooks,
): Promise<Response> {
  let isDone = false;
  const done = answer.then(() => void (isDone = true));
  await queue.headTime(done);
  if (isDone) return jsonResponse(await answer);
  return lateResponse(() => answer, () => answer, hooks);
}

/** An answer that is still being made; `end` waits for its end after the client left. */
function lateResponse(
  make: () => Promise<object>,
  end: () => Promise<unknown>,
  hooks: StreamHooks,
): Response {
  let left = false;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const answer = await make();
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
      await end().catch(() => {});
    },
  }, { highWaterMark: 0 });
  hooks.onStart();
  return new Response(body, { headers: { "content-type": "application/json" } });
}

async function* putBack<Delta>(
  pending: Promise<IteratorResult<Delta, void>>,
  rest: AsyncGenerator<Delta, void, void>,
): AsyncGenerator<Delta, void, void> {
  const first = await pending;
  if (first.done) return;
  yield first.value;
  yield* rest;
}
