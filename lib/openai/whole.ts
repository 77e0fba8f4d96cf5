/** One JSON body, sent so that a client that leaves is noticed while it is being made. */

import type { QueueWatch } from "./early_head.ts";
import { jsonResponse, writeJson } from "./json.ts";
import type { StreamHooks } from "./sse.ts";

/**
 * Waits for an answer, and sends it as a plain body; one that takes long gets its head before it.
 *
 * What fails before the head goes out is a plain HTTP error. The price of an early head: a failure
 * behind it can no longer become a status, so it breaks the connection off.
 */
export async function wholeResponse(
  answer: Promise<object>,
  queue: QueueWatch,
  hooks: StreamHooks,
): Promise<Response> {
  let isDone = false;
  const done = answer.then(() => void (isDone = true));
  await queue.headTime(done);
  return isDone ? jsonResponse(await answer) : lateResponse(answer, hooks);
}

/** An answer that is still being made. */
function lateResponse(answer: Promise<object>, hooks: StreamHooks): Response {
  let left = false;
  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const whole = await answer;
        if (left) return;
        controller.enqueue(new TextEncoder().encode(writeJson(whole)));
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
      await answer.catch(() => {});
    },
  }, { highWaterMark: 0 });
  hooks.onStart();
  return new Response(body, { headers: { "content-type": "application/json" } });
}
