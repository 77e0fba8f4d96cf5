/** Waiting for what another task brings about. */

/** Waits until a condition holds; after three seconds it gives up, and the caller's check fails. */
export async function until(condition: () => boolean): Promise<void> {
  const deadline = Date.now() + 3000;
  while (!condition() && Date.now() < deadline) await delay(2);
}

/** Resolves after a time. */
export function delay(timeMs: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, timeMs));
}

/** A step of the fake model that never ends by itself, only by the client's leaving. */
export function untilAborted(signal: AbortSignal | undefined): Promise<void> {
  return new Promise((_, fail) => {
    if (signal?.aborted) fail(signal.reason);
    signal?.addEventListener("abort", () => fail(signal.reason));
  });
}
