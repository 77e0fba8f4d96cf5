/** From a free port to a quiet end: what happens around serving. */

/** The part of `Deno.HttpServer` that ending needs. */
export interface Drainable {
  readonly finished: Promise<void>;
  shutdown(): Promise<void>;
}

/** Why nothing can listen there, as one sentence; undefined if something can. */
export function portProblem(hostname: string, port: number): string | undefined {
  try {
    Deno.listen({ hostname, port }).close();
    return undefined;
  } catch (error) {
    return listenProblem(error, hostname, port);
  }
}

/** The same for an error that listening has thrown already. */
export function listenProblem(error: unknown, hostname: string, port: number): string {
  if (error instanceof Deno.errors.AddrInUse) {
    return `Cannot listen on port ${port} as another program does: choose another with --port`;
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return `Cannot listen on port ${port} without permission: choose one above 1023 with --port`;
  }
  const reason = error instanceof Error ? error.message : String(error);
  return `Cannot listen on ${hostname} port ${port}: ${reason}`;
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

/**
 * Ends a server: no new connections, open requests may finish for a while, then they are cut.
 *
 * @param abort closes what is still open
 * @returns whether all requests finished by themselves
 */
export async function drain(
  server: Drainable,
  timeoutSeconds: number,
  abort: () => void,
): Promise<boolean> {
  const stopped = server.shutdown().then(() => true);
  if (timeoutSeconds > 0) {
    let timer: number | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = setTimeout(() => resolve(false), timeoutSeconds * 1000);
    });
    const inTime = await Promise.race([stopped, late]);
    clearTimeout(timer);
    if (inTime) return true;
  }
  abort();
  await server.finished;
  return false;
}
