/** Chunks → a server-sent event stream: `data: ` lines, `[DONE]`, and a client that may leave. */

import type { QueueWatch } from "./early_head.ts";
import { toHttpError } from "./errors.ts";
import { writeJson } from "./json.ts";

/** What an event stream tells the handler. */
export interface StreamHooks {
  /** The answer is returned before it is complete; {@linkcode onEnd} will tell when it is over. */
  readonly onStart: () => void;
  /** The client closed the connection: the generation may end. */
  readonly onLeave: () => void;
  /** Something failed after the status line was sent. */
  readonly onError: (error: unknown) => void;
  /** Nothing more will be sent. */
  readonly onEnd: () => void;
}

/**
 * Waits for the first event, so that what fails before it can still be a plain HTTP error, but not
 * for long once the request is queued; then answers 200 and writes an event whenever the client has room for one. A later failure is an
 * error event. Either way `[DONE]` is last.
 */
export async function eventStream(
  events: AsyncGenerator<object, void, void>,
  queue: QueueWatch,
  hooks: StreamHooks,
): Promise<Response> {
  const encoder = new TextEncoder();
  const encode = (data: string) => encoder.encode(`data: ${data}\n\n`);
  const first = events.next();
  await queue.headTime(first);
  let pending: Promise<IteratorResult<object, void>> | undefined = first;
  let left = false;

  const body = new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      try {
        const result = await (pending ?? events.next());
        pending = undefined;
        if (left) return;
        if (!result.done) return controller.enqueue(encode(writeJson(result.value)));
      } catch (error) {
        if (left) return;
        hooks.onError(error);
        controller.enqueue(encode(writeJson(toHttpError(error).body())));
      }
      controller.enqueue(encode("[DONE]"));
      controller.close();
      hooks.onEnd();
    },
    async cancel() {
      left = true;
      hooks.onLeave();
      hooks.onEnd();
      await events.return().catch(() => {});
    },
  }, { highWaterMark: 0 });

  hooks.onStart();
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-cache",
      "x-accel-buffering": "no", // proxies otherwise collect events before they pass them on
    },
  });
}
