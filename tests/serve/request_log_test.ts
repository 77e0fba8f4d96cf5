/** Lines about requests: what is written, what never is, and where it goes. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { handler, type HandlerOptions } from "../../lib/openai/handler.ts";
import { RequestLog } from "../../serve/request_log.ts";
import type { LogSettings } from "../../serve/settings.ts";
import { type LogLevel, Terminal } from "../../serve/terminal.ts";
import { FakeLLM } from "../openai/fake_llm.ts";
import { CHAT, COMPLETIONS, get, HELLO, post } from "../openai/requests.ts";
import { Running } from "./running.ts";

const QUIET: LogSettings = {
  level: "info",
  access: false,
  accessExcept: [],
  requests: false,
  lengthMax: Infinity,
  payloads: false,
  statistics: false,
};
const CONNECTION = {
  remoteAddr: { transport: "tcp", hostname: "10.0.0.7", port: 4711 },
} as const;

/** Sends requests through a handler that is logged, and gives what was written. */
async function logged(
  settings: Partial<LogSettings>,
  requests: readonly Request[],
  options: HandlerOptions = {},
): Promise<{ readonly lines: readonly string[]; readonly printed: readonly string[] }> {
  const lines: string[] = [];
  const printed: string[] = [];
  const terminal = new Terminal({
    write: (text) => void lines.push(text.trimEnd()),
    isTerminal: false,
    color: false,
  });
  terminal.setLevel(settings.level ?? "info");
  const log = new RequestLog({ ...QUIET, ...settings }, {
    terminal,
    print: (line) => void printed.push(line),
  });
  const { onRequest } = log;
  const answer = log.around(
    handler(new FakeLLM(), { ...options, ...(onRequest === undefined ? {} : { onRequest }) }),
  );
  for (const request of requests) await (await answer(request, CONNECTION)).body?.cancel();
  return { lines, printed };
}

Deno.test("An access line names the client, the method, the path and the status, and no query", async () => {
  const { lines } = await logged({ access: true }, [
    get("/health?key=secret"),
    post(CHAT, HELLO),
    get("/nothing"),
  ]);
  assertEquals(lines, [
    '10.0.0.7:4711 - "GET /health" 200',
    '10.0.0.7:4711 - "POST /v1/chat/completions" 200',
    '10.0.0.7:4711 - "GET /nothing" 404',
  ]);
});

Deno.test("At warning and above only errors have access lines, and some paths have none", async () => {
  for (const level of ["warning", "error", "critical"] as const satisfies readonly LogLevel[]) {
    const { lines } = await logged({ access: true, level }, [get("/health"), get("/nothing")]);
    assertEquals(lines, ['10.0.0.7:4711 - "GET /nothing" 404']);
  }
  const accessExcept = ["/health"];
  const { lines } = await logged({ access: true, accessExcept }, [get("/health"), get("/version")]);
  assertEquals(lines, ['10.0.0.7:4711 - "GET /version" 200']);
  assertEquals((await logged({}, [get("/nothing")])).lines, []);
});

Deno.test("A payload line has the body and the status, and neither headers nor the query", async () => {
  const headers = { authorization: "Bearer secret", cookie: "secret" };
  const { lines, printed } = await logged({ payloads: true }, [
    post(`${CHAT}?key=secret`, HELLO, { headers }),
    post(CHAT, "{broken"),
    get("/health", { headers }),
  ], { apiKeys: ["secret"] });
  assertEquals(lines, []);
  assertEquals(printed.length, 3);
  const [chat, broken, health] = printed.map((line) => JSON.parse(line));
  assertEquals(Object.keys(chat), ["timestamp", "message", "req", "res"]);
  assertEquals(Object.keys(chat.req), ["timestamp", "method", "url", "remote_addr", "payload"]);
  assertEquals(Object.keys(chat.res), ["timestamp", "status_code"]);
  assertMatch(chat.req.timestamp, /^\d{4}-\d\d-\d\dT/);
  assertEquals(chat.message, "request");
  assertEquals(chat.req.url, `http://localhost${CHAT}`);
  assertEquals([chat.req.remote_addr, chat.req.payload], ["10.0.0.7:4711", HELLO]);
  assertEquals([chat.res.status_code, broken.req.payload, health.req.payload], [200, null, null]);
  assert(!printed.join().includes("secret"));
});

Deno.test("Who has no key is logged without a payload: the body is not even read", async () => {
  const { printed } = await logged({ payloads: true }, [post(CHAT, HELLO)], { apiKeys: ["k"] });
  const line = JSON.parse(printed[0] ?? "");
  assertEquals([line.res.status_code, line.req.payload], [401, null]);
});

Deno.test("A request line has the id of the answer and the parameters; the prompt is for debugging", async () => {
  const body = { prompt: "Once upon", temperature: 0.5, max_tokens: 2 };
  const headers = { "x-request-id": "mine" };
  const requests = () => [post(COMPLETIONS, body, { headers })];
  const line = 'Request mine: POST /v1/completions {"temperature":0.5,"max_tokens":2}';
  assertEquals((await logged({ requests: true }, requests())).lines, [line]);
  assertEquals((await logged({ requests: true, level: "warning" }, requests())).lines, []);
  const forged = post(COMPLETIONS, { prompt: "a", request_id: "x\nerror: y" });
  const [first = ""] = (await logged({ requests: true }, [forged])).lines;
  assert(first.startsWith("Request x?error: y: POST") && !first.includes("\n"));
  assertEquals((await logged({ requests: true, level: "debug" }, requests())).lines, [
    line,
    'Request mine asks: {"prompt":"Once upon"}',
  ]);
  assertEquals((await logged({ requests: true, level: "debug", lengthMax: 4 }, requests())).lines, [
    'Request mine: POST /v1/completions {"te…',
    'Request mine asks: {"pr…',
  ]);
});

Deno.test("No text of a request commands the terminal or ends a line", async () => {
  const evil = "\u009b31m\u007f\u2028\u0085\u001b[2J\n";
  const body = { prompt: evil, user: evil };
  const settings = { requests: true, level: "debug", payloads: true } as const;
  const { lines, printed } = await logged(settings, [post(COMPLETIONS, body)]);
  for (const line of [...lines, ...printed]) assert(!/[\p{Cc}\u2028\u2029]/u.test(line), line);
  assertEquals(JSON.parse(printed[0] ?? "").req.payload, body);
  assertEquals(lines.length, 2);
});

Deno.test("The id in a request line is that of the answer, also when it is made up here", async () => {
  const ids: string[] = [];
  const answer = handler(new FakeLLM(), { onRequest: ({ id }) => void ids.push(id) });
  const first = await (await answer(post(CHAT, HELLO))).json();
  const second = await (await answer(post(CHAT, { ...HELLO, request_id: "r" }))).json();
  assertEquals([first.id, second.id], ids.map((id) => `chatcmpl-${id}`));
  assertEquals(ids[1], "r");
});

Deno.test("Payload lines leave streams as they are: the line is there before the stream ends", async () => {
  const args = ["fake", "--port=0", "--host=127.0.0.1", "--enable-payload-logging"];
  await using running = new Running(args, { FAKE_TOKEN_MS: "30" });
  const url = await running.url();
  const response = await fetch(`${url}${CHAT}`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...HELLO, stream: true }),
  });
  let text = "";
  let seenAt: number | undefined;
  for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
    text += chunk;
    if (running.output.includes("\n")) seenAt ??= text.length;
  }
  assertStringIncludes(text, "data: [DONE]");
  assert(seenAt !== undefined && seenAt < text.length, "the line came before the stream's end");
  assertEquals(JSON.parse(running.output).req.payload, { ...HELLO, stream: true });
  assert(!running.text.includes("POST"), "no access line beside it");
});
