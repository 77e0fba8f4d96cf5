/** What a client does on one visit, and what it must be answered. */

import { readStream, readWhole } from "./answers.ts";
import { Connection, CutError } from "./connection.ts";
import type { Random } from "./random.ts";
import type { Known } from "./requests.ts";
import { BODY_SIZE_LIMIT, MAX_MODEL_LENGTH } from "./server.ts";

/** A request and the answer it got alone. */
export interface Expected extends Known {
  readonly answer: string;
}

/** What a visit is given. */
export interface VisitOptions {
  readonly port: number;
  readonly random: Random;
  readonly known: readonly Expected[];
}

/** What became of it: the answer was compared, refused as it had to be, or not waited for. */
export type VisitEnd = "verified" | "refused" | "left";

type Visit = (options: VisitOptions) => Promise<VisitEnd>;

/** An answer is another one than it must be. */
class WrongAnswerError extends Error {
  override name = "WrongAnswerError";
}

/** Every kind of visit, and how often it comes. */
const VISITS: readonly (readonly [Visit, number])[] = [
  [readsWhole, 20],
  [readsStream, 26],
  [readsSlowly, 8],
  [asksAgain, 6],
  [pipelines, 3],
  [halfCloses, 6],
  [leavesBeforeAnAnswer, 10],
  [leavesInTheMiddle, 14],
  [leavesItsBodyUnfinished, 5],
  [sendsTooMuch, 3],
  [sendsTooMuchInChunks, 3],
  [sendsNonsense, 6],
  [asksTheImpossible, 6],
  [looksAround, 6],
];

/** One visit of a random kind; throws if it is not treated as it must be. */
export async function visit(options: VisitOptions): Promise<VisitEnd> {
  const kind = options.random.weighted(VISITS);
  try {
    return await kind(options);
  } catch (error) {
    throw new WrongAnswerError(
      `a client that ${kind.name}: ${error instanceof Error ? error.message : error}`,
      { cause: error },
    );
  }
}

/** The answer a request gets when nobody else is there. */
export async function askAlone(port: number, request: Known): Promise<string> {
  using connection = await Connection.open(port);
  await connection.post(request.path, body(request, false));
  return await readForm(connection, false);
}

async function readsWhole({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  return await exchange(connection, choose(known, random, false), false);
}

async function readsStream({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  return await exchange(connection, choose(known, random, true), true);
}

async function readsSlowly({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  connection.beforeRead = () => pause(random.integer(0, 120));
  const isStreamed = random.next() < 0.8;
  return await exchange(connection, choose(known, random, isStreamed), isStreamed);
}

/** Several requests over one connection. */
async function asksAgain({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  for (let round = 0; round < 3; round++) {
    const isStreamed = random.next() < 0.5;
    await exchange(connection, choose(known, random, isStreamed), isStreamed);
  }
  return "verified";
}

/** The second request before the first answer. */
async function pipelines({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const asked = [choose(known, random, true), choose(known, random, true)];
  for (const request of asked) await connection.post(request.path, body(request, true));
  for (const request of asked) compare(request, await readForm(connection, true));
  return "verified";
}

/** Says that it will send no more: the server may take that for leaving, or answer in full. */
async function halfCloses({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const isStreamed = random.next() < 0.7;
  const request = choose(known, random, isStreamed);
  await connection.post(request.path, body(request, isStreamed));
  await pause(random.integer(0, 60));
  await connection.closeWriting();
  try {
    const { status, text } = await connection.readAnswer();
    // Taken for leaving while its body was still being read.
    if (status === 400 && text.includes("Cannot read the body")) return "left";
    checkStatus(status, 200, () => text);
    compare(request, isStreamed ? readStream(text) : readWhole(text));
    return "verified";
  } catch (error) {
    if (error instanceof CutError) return "left";
    throw error;
  }
}

async function leavesBeforeAnAnswer({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const isStreamed = random.next() < 0.7;
  const request = choose(known, random, isStreamed);
  await connection.post(request.path, body(request, isStreamed));
  await pause(random.pick([0, 0, 1, 5, 20, 80]));
  return "left";
}

async function leavesInTheMiddle({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const isStreamed = random.next() < 0.8;
  const request = choose(known, random, isStreamed);
  await connection.post(request.path, body(request, isStreamed));
  const head = await connection.readHead();
  checkStatus(head.status, 200, () => "");
  if (!isStreamed) await pause(random.integer(0, 200));
  let left = random.integer(0, 12);
  if (isStreamed) {
    for await (const _ of connection.readBody(head)) {
      if (left-- === 0) break;
    }
  }
  return "left";
}

async function leavesItsBodyUnfinished({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const request = random.pick(known);
  const text = body(request, true);
  await connection.send(
    `POST ${request.path} HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n` +
      `content-length: ${text.length + 10_000}\r\n\r\n${text.slice(0, random.integer(0, 60))}`,
  );
  await pause(random.integer(0, 500));
  return "left";
}

async function sendsTooMuch({ port, random }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const prompt = "x".repeat(BODY_SIZE_LIMIT + random.integer(1, 100_000));
  await connection.post("/v1/completions", JSON.stringify({ prompt }));
  return await expectRefusal(connection, 413);
}

async function sendsTooMuchInChunks({ port }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  await connection.send(
    "POST /v1/completions HTTP/1.1\r\nhost: soak\r\ncontent-type: application/json\r\n" +
      "transfer-encoding: chunked\r\n\r\n",
  );
  const chunk = `1000\r\n${" ".repeat(4096)}\r\n`;
  for (let sent = 0; sent <= BODY_SIZE_LIMIT; sent += 4096) await connection.send(chunk);
  return await expectRefusal(connection, 413);
}

async function sendsNonsense({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const request = random.pick(known);
  const text = body(request, random.next() < 0.5);
  const [path, sent, type, status] = random.pick<readonly [string, string, string, number]>([
    [request.path, text.slice(0, random.integer(0, text.length - 1)), "application/json", 400],
    [request.path, `[${text}]`, "application/json", 400],
    [request.path, text, "text/plain", 415],
    [request.path, "[".repeat(10_000), "application/json", 400],
    ["/v1/completion", text, "application/json", 404],
    ["/health", text, "application/json", 405],
  ]);
  await connection.post(path, sent, type);
  return await expectRefusal(connection, status);
}

async function asksTheImpossible({ port, random, known }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  const { path, fields } = random.pick(known);
  const wrong = random.pick<Record<string, unknown>>([
    { temperature: -1 },
    { n: 0 },
    { max_tokens: "many" },
    { max_tokens: MAX_MODEL_LENGTH + 1 },
    { top_p: 2 },
    { logit_bias: { "-1": 1 } },
    { stop: [1] },
    { use_beam_search: true, n: 2, temperature: 0, stream: true },
    path === "/v1/completions"
      ? { prompt: "word ".repeat(MAX_MODEL_LENGTH + 10) }
      : { messages: [{ role: "user", content: "word ".repeat(MAX_MODEL_LENGTH + 10) }] },
  ]);
  await connection.post(path, JSON.stringify({ ...fields, ...wrong }));
  return await expectRefusal(connection, 400);
}

async function looksAround({ port, random }: VisitOptions): Promise<VisitEnd> {
  using connection = await Connection.open(port);
  for (const path of ["/health", "/metrics", "/v1/models", "/load", "/version"]) {
    await connection.get(path);
    const { status, text } = await connection.readAnswer();
    checkStatus(status, 200, () => text);
  }
  const prompt = "A text that comes back as it was, é🌊.".slice(random.integer(0, 20));
  await connection.post("/tokenize", JSON.stringify({ prompt, add_special_tokens: false }));
  const { tokens } = JSON.parse((await connection.readAnswer()).text);
  await connection.post("/detokenize", JSON.stringify({ tokens }));
  const back = JSON.parse((await connection.readAnswer()).text).prompt;
  if (back !== prompt) throw new Error(`"${prompt}" comes back as "${back}"`);
  return "verified";
}

/** One of the requests that can be asked so. */
function choose(known: readonly Expected[], random: Random, isStreamed: boolean): Expected {
  return random.pick(isStreamed ? known.filter(({ canStream }) => canStream) : known);
}

async function exchange(
  connection: Connection,
  request: Expected,
  isStreamed: boolean,
): Promise<VisitEnd> {
  await connection.post(request.path, body(request, isStreamed));
  compare(request, await readForm(connection, isStreamed));
  return "verified";
}

function body({ fields }: Known, isStreamed: boolean): string {
  const stream = isStreamed ? { stream: true, stream_options: { include_usage: true } } : {};
  return JSON.stringify({ ...fields, ...stream });
}

async function readForm(connection: Connection, isStreamed: boolean): Promise<string> {
  const { status, text } = await connection.readAnswer();
  checkStatus(status, 200, () => text);
  return isStreamed ? readStream(text) : readWhole(text);
}

function compare(request: Expected, answer: string): void {
  if (answer === request.answer) return;
  throw new Error(
    `${request.path} ${JSON.stringify(request.fields)}\n  alone:    ${request.answer}\n` +
      `  in crowd: ${answer}`,
  );
}

async function expectRefusal(connection: Connection, wanted: number): Promise<VisitEnd> {
  try {
    const { status, text } = await connection.readAnswer();
    checkStatus(status, wanted, () => text);
    if (typeof JSON.parse(text).error.message !== "string") throw new Error(`No envelope: ${text}`);
  } catch (error) {
    // A server that closes while a body is still being sent may reset the connection: then the
    // refusal is lost on its way, which no server can help.
    if (!(error instanceof CutError && wanted === 413)) throw error;
  }
  return "refused";
}

function checkStatus(status: number, wanted: number, text: () => string): void {
  if (status !== wanted) throw new Error(`the status is ${status}, not ${wanted}: ${text()}`);
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
