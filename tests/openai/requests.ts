/** Requests as a client would send them, and what comes back, for tests without a socket. */

import { handler, type HandlerOptions, type ServedModel } from "../../lib/openai/handler.ts";
import { FakeLLM } from "./fake_llm.ts";

/** A POST with a JSON body. */
export function post(path: string, body: unknown, init: RequestInit = {}): Request {
  return new Request(`http://localhost${path}`, {
    method: "POST",
    body: typeof body === "string" ? body : JSON.stringify(body),
    ...init,
    headers: { "content-type": "application/json", ...init.headers },
  });
}

/** A request without a body. */
export function get(path: string, init: RequestInit = {}): Request {
  return new Request(`http://localhost${path}`, init);
}

/** Sends one request to a fresh handler. */
export function send(
  request: Request,
  llm: ServedModel = new FakeLLM(),
  options: HandlerOptions = {},
): Promise<Response> {
  return handler(llm, options)(request);
}

/** A JSON value that a test reads freely. */
// deno-lint-ignore no-explicit-any -- answers are read key by key and compared with literals
export type Json = any;

/** Sends a body and reads a JSON answer. */
export async function ask(
  path: string,
  body: unknown,
  llm: ServedModel = new FakeLLM(),
  options: HandlerOptions = {},
): Promise<{ readonly status: number; readonly body: Json }> {
  const response = await send(post(path, body), llm, options);
  return { status: response.status, body: await response.json() };
}

/** The error of a refused request. */
export async function refusal(
  path: string,
  body: unknown,
  llm?: ServedModel,
): Promise<Json> {
  const answer = await ask(path, body, llm);
  if (answer.status === 200) throw new Error(`Expected a refusal: ${JSON.stringify(answer.body)}`);
  return answer.body.error;
}

/** The events of a stream, `[DONE]` included as text. */
export async function events(response: Response): Promise<Json[]> {
  const text = await response.text();
  if (!text.endsWith("\n\n")) {
    throw new Error(`The stream ends inside an event: ${text.slice(-80)}`);
  }
  return text.slice(0, -2).split("\n\n").map((event) => {
    if (!event.startsWith("data: ")) throw new Error(`Not a data event: ${event}`);
    const data = event.slice(6);
    return data === "[DONE]" ? data : JSON.parse(data);
  });
}

/** Hides what differs from run to run. */
export function stable(text: string): string {
  return text
    .replace(/"created":\d+/g, '"created":0')
    .replace(/(chatcmpl|cmpl|modelperm|embd|score|rerank|pooling|classify)-[0-9a-f]{32}/g, "$1-0");
}

/** Waits until a condition holds; fails after two seconds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 2000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

export const CHAT = "/v1/chat/completions";
export const COMPLETIONS = "/v1/completions";
/** The smallest chat body. */
export const HELLO: Readonly<Record<string, unknown>> = {
  messages: [{ role: "user", content: "Hi" }],
};
