/** What the scheduler runs: a sequence that generates, or a prompt whose hidden states are wanted. */

import { PoolingRequest } from "./pooling_request.ts";
import type { Request } from "./request.ts";

/** Either kind. Their common fields are all that scheduler and block tables look at. */
export type Scheduled = Request | PoolingRequest;

/** Positions [from, to) whose rows come back if the request's next `count` tokens are computed. */
export function rowsOf(
  request: Scheduled,
  count: number,
): { readonly from: number; readonly to: number } {
  const end = request.computedCount + count;
  const from = Math.max(request.computedCount, request.firstRowPosition);
  const last = request instanceof PoolingRequest ? Math.min(end, request.endRowPosition) : end;
  return { from, to: Math.max(from, last) };
}

/** How many rows of logits that makes: hidden states are none. */
export function logitRowCount(request: Scheduled, count: number): number {
  if (request instanceof PoolingRequest) return 0;
  const { from, to } = rowsOf(request, count);
  return to - from;
}
