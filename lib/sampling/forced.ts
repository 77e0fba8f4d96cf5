/** Tokens that a request says itself: what may be forced, and the forced token of a step. */

import { InvalidParameterError } from "../base/errors.ts";
import { invariant } from "../base/invariant.ts";
import { type AdjustedRow, bansInUse } from "./adjust.ts";
import { endsWithStart } from "./bans.ts";
import { refuse } from "./param_checks.ts";
import type { ResolvedSamplingParams } from "./resolved_params.ts";
import type { SamplingState } from "./state.ts";

/**
 * Refuses forced tokens that other parameters forbid, as far as that is known before the first
 * step. What comes after a token that ends the output is never said, and not looked at.
 *
 * @throws {InvalidParameterError} Names `forcedOutput`.
 */
export function checkForcedOutput(
  params: ResolvedSamplingParams,
  endTokenIds: readonly number[],
): void {
  const { forcedTokenIds: forced, minTokens, maxTokens } = params;
  if (forced === null) return;
  if (minTokens > forced.length) {
    refuse("forcedOutput", forced, `it must hold at least minTokens tokens, which is ${minTokens}`);
  }
  const ending = new Set([...(params.ignoreEos ? [] : endTokenIds), ...params.stopTokenIds]);
  const banned = new Set([...endTokenIds, ...params.stopTokenIds]);
  const allowed = params.allowedTokenIds && new Set(params.allowedTokenIds);
  const length = Math.min(forced.length, maxTokens ?? Infinity);
  for (let i = 0; i < length; i++) {
    const id = forced[i]!;
    const rule = (reason: string) => `token ${id}, number ${i} of it, ${reason}`;
    if (allowed !== null && !allowed.has(id)) {
      refuse("forcedOutput", forced, rule("is not one of allowedTokenIds"));
    }
    if (i < minTokens && banned.has(id)) {
      refuse(
        "forcedOutput",
        forced,
        rule("would end the output before there are minTokens tokens"),
      );
    }
    if (
      params.badTokenSequences.some((bad) => bad.at(-1) === id && endsWithStart(forced, bad, i))
    ) {
      refuse("forcedOutput", forced, rule("completes one of badWords"));
    }
    if (ending.has(id)) return;
  }
}

/**
 * The forced token of this step.
 *
 * @throws {InvalidParameterError} It is impossible: banned, or at −Infinity. Names `forcedOutput`.
 */
export function forcedToken(adjusted: AdjustedRow, state: SamplingState): number {
  const { params, outputCount } = state;
  const id = params.forcedTokenIds?.[outputCount];
  invariant(id !== undefined, "No token is forced at this step");
  if (logitOf(adjusted, id) > -Infinity) return id;
  const bans = bansInUse(state);
  throw new InvalidParameterError(
    "forcedOutput",
    params.forcedTokenIds,
    `Cannot force token ${id}, number ${outputCount} of forcedOutput: it is impossible` +
      (bans.length === 0 ? "" : ` with ${bans.join(", ")}`),
  );
}

function logitOf({ base, ids, logits, isList }: AdjustedRow, id: number): number {
  const place = ids.indexOf(id);
  if (place >= 0) return logits[place]!;
  return isList ? -Infinity : base[id] ?? -Infinity;
}
