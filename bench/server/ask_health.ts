/** Times of `/health`, asked as a probe asks: from a thread that has nothing else to do. */

import type { HealthAnswer, HealthQuestion } from "./health_worker.ts";
import { withLimit } from "./limit.ts";

/** Requests to `/health` are that far apart. */
export const HEALTH_PAUSE_MS = 5;
/** Ten of them are slower than the p99. */
export const HEALTH_SAMPLES = 1000;
/** All of them, beside everything else. */
const HEALTH_LIMIT_MS = 300_000;

/** Milliseconds of each answer. */
export async function askHealth(port: number): Promise<readonly number[]> {
  const worker = new Worker(new URL("health_worker.ts", import.meta.url), { type: "module" });
  try {
    const answer = new Promise<HealthAnswer>((resolve, reject) => {
      worker.onmessage = ({ data }: MessageEvent<HealthAnswer>) => resolve(data);
      worker.onerror = ({ message }) => reject(new Error(message));
    });
    worker.postMessage(
      { port, samples: HEALTH_SAMPLES, pauseMs: HEALTH_PAUSE_MS } satisfies HealthQuestion,
    );
    const result = await withLimit(answer, HEALTH_LIMIT_MS, "The last answer of /health");
    if ("error" in result) throw new Error(result.error);
    return result.times;
  } finally {
    worker.terminate();
  }
}
