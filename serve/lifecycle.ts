/** From the first signal to a quiet end: how serving stops. */

/** The part of `Deno.HttpServer` that ending needs. */
export interface Drainable {
  shutdown(): Promise<void>;
}

/** Calls `first` at the first Ctrl-C or SIGTERM and `second` at any later one. */
export function watchSignals(first: () => void, second: () => void): Disposable {
  // Windows knows no SIGTERM; Ctrl-Break takes its place.
  const signals: readonly Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"]
    : ["SIGINT", "SIGTERM"];
  let count = 0;
  const listener = () => count++ === 0 ? first() : second();
  for (const signal of signals) Deno.addSignalListener(signal, listener);
  return {
    [Symbol.dispose]() {
      for (const signal of signals) Deno.removeSignalListener(signal, listener);
    },
  };
}

/** How long answers that were cut may take to be told so. */
const CUT_TIMEOUT_MS = 1000;

/**
 * Ends a server: no new connections, open requests may finish for a while, then they are cut.
 *
 * Aborting the signal of `Deno.serve` would cut connections without a word, and throws once
 * `shutdown` was called (Deno 2.9). Closing the model instead lets every open answer end with an
 * error that its client can read.
 *
 * @param cut ends what is being generated
 * @returns whether all requests finished by themselves
 */
export async function drain(
  server: Drainable,
  timeoutSeconds: number,
  cut: () => Promise<void>,
): Promise<boolean> {
  const stopped = server.shutdown();
  if (timeoutSeconds > 0 && await settles(stopped, timeoutSeconds * 1000)) return true;
  await cut();
  await settles(stopped, CUT_TIMEOUT_MS);
  return false;
}

/** How many requests for the model are being answered: the handler counts them for `GET /load`. */
export async function openRequestCount(
  answer: (request: Request) => Promise<Response>,
  { apiKeys: [key] }: { readonly apiKeys: readonly string[] },
): Promise<number> {
  const headers = key === undefined ? {} : { authorization: `Bearer ${key}` };
  const response = await answer(new Request("http://localhost/load", { headers }));
  return (await response.json())["server_load"];
}

/** Whether a promise settles within a time. */
async function settles(promise: Promise<void>, timeoutMs: number): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), timeoutMs);
  });
  try {
    return await Promise.race([promise.then(() => true), late]);
  } finally {
    clearTimeout(timer);
  }
}
