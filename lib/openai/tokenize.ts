/** `POST /tokenize` (a text, or a conversation) and `POST /detokenize`. */

import { readFields, readTokenIds } from "./body.ts";
import type { RouteContext } from "./context.ts";
import { checkIdleFields, TOKENIZED } from "./idle_fields.ts";
import { jsonResponse } from "./json.ts";
import { readChatOptions, readMessages } from "./messages.ts";
import { maxModelLength } from "./models.ts";
import { checkHasTemplate, withDefaultKwargs } from "./template_defaults.ts";
import type { DetokenizeAnswer, TokenizeAnswer } from "./types.ts";

/** Text or messages → token ids. The length is not checked against the model's. */
export async function postTokenize(context: RouteContext): Promise<Response> {
  const { llm, settings } = context;
  const fields = await readFields(context);
  checkIdleFields(fields, TOKENIZED);
  const prompt = fields.string("prompt");
  const wantsStrings = fields.boolean("return_token_strs") ?? false;
  let tokens: readonly number[];
  if (fields.has("messages")) { // they count, whatever prompt says
    const messages = readMessages(fields, settings.servedModelNames[0]);
    const tools = fields.records("tools");
    const options = readChatOptions(fields, settings.trustRequestChatTemplate);
    checkHasTemplate(options, context, "give prompt in place of messages");
    tokens = await llm.tokenizeChat(messages, {
      ...withDefaultKwargs(options, settings),
      ...(tools === undefined ? {} : { tools }),
      signal: context.signal,
    });
  } else if (prompt !== undefined) {
    const addSpecialTokens = fields.boolean("add_special_tokens") ?? true;
    tokens = await llm.tokenizeAsync(prompt, { addSpecialTokens, signal: context.signal });
  } else {
    throw fields.missing("prompt");
  }
  const answer: TokenizeAnswer = {
    count: tokens.length,
    max_model_len: maxModelLength(llm.info),
    tokens,
    token_strs: wantsStrings ? llm.tokenStrings(tokens) : null,
  };
  return jsonResponse(answer);
}

/** Token ids → text, special tokens shown. */
export async function postDetokenize(context: RouteContext): Promise<Response> {
  const { llm } = context;
  const fields = await readFields(context);
  const list = fields.list("tokens");
  if (list === undefined) throw fields.missing("tokens");
  const tokens = readTokenIds(fields, list, "tokens", llm.info.vocabSize);
  const prompt = await llm.detokenizeAsync(tokens, { signal: context.signal });
  return jsonResponse({ prompt } satisfies DetokenizeAnswer);
}
