/** The header `endpoint-load-metrics`: how busy the engine is, for load balancers that speak ORCA. */

import type { RouteContext } from "./context.ts";

/**
 * Adds the report to an answer, if the request asks for one by `endpoint-load-metrics-format`:
 * `TEXT` or `JSON`. Another format is not an error, as the balancer asks and not the client; there
 * is no report then, as in vLLM.
 */
export function addLoadReport(
  response: Response,
  { request, llm }: Pick<RouteContext, "request" | "llm">,
): Response {
  const format = request.headers.get("endpoint-load-metrics-format")?.toUpperCase();
  if (format !== "TEXT" && format !== "JSON") return response;
  const { usedBlockCount, blockCount, waitingCount } = llm.stats().engine;
  const metrics = {
    kv_cache_usage_perc: usedBlockCount / blockCount,
    num_requests_waiting: waitingCount,
  };
  const report = format === "JSON"
    ? JSON.stringify({ named_metrics: metrics })
    : Object.entries(metrics).map(([name, value]) => `named_metrics.${name}=${value}`).join(", ");
  response.headers.set("endpoint-load-metrics", `${format} ${report}`);
  return response;
}
