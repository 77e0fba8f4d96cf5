/** What the requests of both generating endpoints have in common. */

import type { RequestOptions } from "../llm.ts";
import type { SamplingParams } from "../sampling/params.ts";
import type { Fields } from "./body.ts";
import { type AnswerHead, answerHead, type RouteContext } from "./context.ts";
import type { LogprobStyle } from "./logprobs.ts";
import { type ParamLimits, paramLimits } from "./params.ts";
import { readRequestOptions } from "./request_options.ts";
import { type Delivery, readDelivery } from "./stream_options.ts";

/** A checked request, as far as it is the same for chats and completions. */
export interface GenerationRequest {
  readonly params: SamplingParams;
  readonly options: RequestOptions;
  readonly delivery: Delivery;
  /** undefined: no log-probabilities. */
  readonly logprobs: LogprobStyle | undefined;
  readonly returnTokenIds: boolean;
  /** Answers to each prompt. */
  readonly choiceCount: number;
  readonly head: AnswerHead;
}

/**
 * Reads the fields that both endpoints have.
 *
 * @param idPrefix what the answer's id begins with
 * @param readParams the endpoint's own reading of what steers the generation
 */
export function readGenerationRequest(
  fields: Fields,
  context: RouteContext,
  idPrefix: string,
  readParams: (fields: Fields, limits: ParamLimits) => SamplingParams,
): GenerationRequest {
  const { settings } = context;
  const delivery = readDelivery(fields, settings);
  const head = answerHead(context, idPrefix, fields.string("request_id"));
  const truncationSide = fields.choice("truncation_side", ["left", "right"]);
  const params = readParams(fields, paramLimits(context));
  return {
    params,
    options: {
      ...readRequestOptions(fields, context, head),
      ...(truncationSide === undefined ? {} : { truncationSide }),
    },
    delivery,
    logprobs: logprobStyle(fields, params, settings.returnTokensAsTokenIds),
    returnTokenIds: fields.boolean("return_token_ids") ?? false,
    choiceCount: params.n ?? 1,
    head,
  };
}

function logprobStyle(
  fields: Fields,
  params: SamplingParams,
  asTokenIdsByDefault: boolean,
): LogprobStyle | undefined {
  const asTokenIds = fields.boolean("return_tokens_as_token_ids") ?? asTokenIdsByDefault;
  if (params.logprobs === undefined) return undefined;
  const topCount = params.logprobTokenIds === undefined ? params.logprobs : Infinity;
  return { topCount, asTokenIds };
}
