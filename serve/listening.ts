/** Where the server listens: whether it can, told before the model loads, and what is left behind. */

import type { Listening } from "./settings.ts";

/** Why nothing can listen there, as one sentence; undefined if something can. */
export async function listenProblem(listening: Listening): Promise<string | undefined> {
  try {
    if (listening.kind === "socket") return await socketProblem(listening.path);
    const { hostname, port, tls } = listening;
    const listener = tls === undefined
      ? Deno.listen({ hostname, port })
      : Deno.listenTls({ hostname, port, ...tls });
    listener.close();
    return undefined;
  } catch (error) {
    return listenFailure(error, listening);
  }
}

/** The same for an error that listening has thrown already. */
export function listenFailure(error: unknown, listening: Listening): string {
  const reason = error instanceof Error ? error.message : String(error);
  if (listening.kind === "socket") return `Cannot listen on --uds "${listening.path}": ${reason}`;
  const { hostname, port, tls } = listening;
  if (error instanceof Deno.errors.AddrInUse) {
    return `Cannot listen on port ${port} as another program does: choose another with --port`;
  }
  if (error instanceof Deno.errors.PermissionDenied) {
    return `Cannot listen on port ${port} without permission: choose one above 1023 with --port`;
  }
  if (tls !== undefined && isAboutKeys(error)) {
    return `Cannot use --ssl-certfile and --ssl-keyfile: ${reason}`;
  }
  return `Cannot listen on ${hostname} port ${port}: ${reason}`;
}

/** Everything else that can go wrong is told by the system, and has a code. */
function isAboutKeys(error: unknown): boolean {
  return error instanceof Deno.errors.InvalidData ||
    error instanceof Error && !("code" in error) && /key|cert|PEM|tls/i.test(error.message);
}

/** A socket that nobody listens on is what a killed server left; it is removed. */
async function socketProblem(path: string): Promise<string | undefined> {
  const info = await Deno.lstat(path).catch((error) => {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  });
  if (info === undefined) {
    // Only listening shows whether the folder is there and may be written to.
    Deno.listen({ transport: "unix", path }).close();
    await removeSocket(path);
    return undefined;
  }
  if (!info.isSocket) {
    return `Cannot listen on --uds "${path}" as it is no socket: choose another path`;
  }
  if (await isAnswered(path)) {
    return `Cannot listen on --uds "${path}" as another program does: choose another path`;
  }
  await removeSocket(path);
  return undefined;
}

async function isAnswered(path: string): Promise<boolean> {
  try {
    (await Deno.connect({ transport: "unix", path })).close();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) return false;
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Removes the file of a socket, if it is still there. */
export async function removeSocket(path: string): Promise<void> {
  await Deno.remove(path).catch((error) => {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  });
}
