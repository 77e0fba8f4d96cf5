/**
 * Asks `/health` from a thread with nothing else to do, as a probe would: a thread that also writes
 * long prompts and reads streams would count its own delays as the server's.
 */

import { Connection } from "../../tools/soak/connection.ts";
import { withLimit } from "./limit.ts";

/** What the thread is told, once. */
export interface HealthQuestion {
  readonly port: number;
  readonly samples: number;
  readonly pauseMs: number;
}

/** What it says, once: how long each answer took, in milliseconds. */
export type HealthAnswer =
  | { readonly times: readonly number[] }
  | { readonly error: string };

/** This thread, seen from inside. */
interface Scope {
  onmessage: ((event: MessageEvent<HealthQuestion>) => void) | null;
  postMessage(message: HealthAnswer): void;
}

/** A single request that takes longer will never end. */
const REQUEST_LIMIT_MS = 60_000;

async function askOnce(port: number): Promise<number> {
  const start = performance.now();
  using connection = await Connection.open(port);
  await connection.get("/health");
  const { status } = await withLimit(
    connection.readAnswer(),
    REQUEST_LIMIT_MS,
    "An answer of /health",
  );
  if (status !== 200) throw new Error(`/health answers with ${status}`);
  return performance.now() - start;
}

async function askAll({ port, samples, pauseMs }: HealthQuestion): Promise<HealthAnswer> {
  const times: number[] = [];
  try {
    while (times.length < samples) {
      times.push(await askOnce(port));
      await new Promise((resolve) => setTimeout(resolve, pauseMs));
    }
    return { times };
  } catch (error) {
    return { error: error instanceof Error ? error.message : String(error) };
  }
}

const scope = self as unknown as Scope;
scope.onmessage = async ({ data }) => scope.postMessage(await askAll(data));
