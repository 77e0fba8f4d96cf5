/** What can be done to the server with a bare socket: odd framing, lies about lengths, idle crowds. */

import { assert, assertEquals } from "@std/assert";
import { handler } from "../../lib/openai/handler.ts";
import { Connection, CutError } from "../../tools/soak/connection.ts";
import { FakeLLM } from "./fake_llm.ts";
import { until } from "./requests.ts";

const BODY = JSON.stringify({ prompt: "Hi" });
const STREAM = JSON.stringify({ prompt: "Hi", stream: true });
const POST = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
const HEALTH = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
const SIZE_LIMIT = 10_000;
const ANSWER_TIMEOUT_MS = 5000;

interface Served {
  readonly port: number;
  readonly llm: FakeLLM;
}

/** Registers a test on a served fake; afterwards nothing runs and nothing went wrong inside. */
function servedTest(name: string, fn: (served: Served) => Promise<void>): void {
  Deno.test(name, async () => {
    const llm = new FakeLLM();
    const failures: unknown[] = [];
    const answer = handler(llm, {
      bodySizeLimit: SIZE_LIMIT,
      onError: (error) => failures.push(error),
    });
    const options: Deno.ServeTcpOptions = {
      hostname: "127.0.0.1",
      port: 0,
      onListen() {},
    };
    const server = Deno.serve({
      ...options,
      onError(error) {
        failures.push(error);
        return new Response(null, { status: 500 });
      },
    }, answer);
    try {
      await fn({ port: server.addr.port, llm });
      await until(() => llm.running === 0, "all generations end");
      using connection = await Connection.open(server.addr.port);
      assertEquals(await statuses(connection, HEALTH), [200]);
    } finally {
      await server.shutdown();
    }
    assertEquals(failures, []);
  });
}

/** The statuses of so many answers; a connection that is cut instead gives a 0. */
async function statuses(connection: Connection, sent: string, count = 1): Promise<number[]> {
  await connection.send(Uint8Array.from(sent, (character) => character.charCodeAt(0)));
  const found: number[] = [];
  // A server that says nothing is not waited for: reading from a closed socket throws.
  const timer = setTimeout(() => connection[Symbol.dispose](), ANSWER_TIMEOUT_MS);
  try {
    while (found.length < count) found.push((await connection.readAnswer()).status);
  } catch (error) {
    if (!(error instanceof CutError)) throw error;
    if (found.length === 0) found.push(0);
  } finally {
    clearTimeout(timer);
  }
  return found;
}

const withLength = (head: string, body: string) =>
  `${head}content-length: ${body.length}\r\n\r\n${body}`;
const chunk = (text: string) => `${text.length.toString(16)}\r\n${text}\r\n`;

/** What is sent, and the statuses that come back; 0: the connection is closed without one. */
const CASES: Readonly<Record<string, readonly [sent: string, ...statuses: number[]]>> = {
  "a body of known length": [withLength(POST, BODY), 200],
  "a body in chunks": [`${POST}transfer-encoding: chunked\r\n\r\n${chunk(BODY)}0\r\n\r\n`, 200],
  "a body in chunks of a byte": [
    `${POST}transfer-encoding: chunked\r\n\r\n${[...BODY].map(chunk).join("")}0\r\n\r\n`,
    200,
  ],
  "chunks with extensions and a trailer": [
    `${POST}transfer-encoding: chunked\r\n\r\n${
      chunk(BODY).replace("\r", ";a=b\r")
    }0\r\na: b\r\n\r\n`,
    200,
  ],
  "chunks that are none": [`${POST}transfer-encoding: chunked\r\n\r\nzz\r\n${BODY}`, 0],
  "a chunk of 2⁷² bytes": [`${POST}transfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n`, 0],
  "length and chunks at once": [
    `${POST}transfer-encoding: chunked\r\n${withLength("", BODY)}`,
    400,
  ],
  "another transfer encoding": [`${POST}transfer-encoding: xchunked\r\n\r\n${BODY}`, 400],
  "two lengths": [`${POST}content-length: 3\r\n${withLength("", BODY)}`, 400],
  "a negative length": [`${POST}content-length: -1\r\n\r\n${BODY}`, 400],
  "a length beyond the limit": [`${POST}content-length: ${SIZE_LIMIT + 1}\r\n\r\n`, 413],
  "chunks beyond the limit": [
    `${POST}transfer-encoding: chunked\r\n\r\n${chunk(" ".repeat(4096)).repeat(3)}`,
    413,
  ],
  "a length that is too short": [`${POST}content-length: 5\r\n\r\n${BODY}`, 400],
  "no body at all": [`${POST}\r\n`, 400],
  "a compressed body": [withLength(`${POST}content-encoding: gzip\r\n`, "\x1f\x8b\x08"), 415],
  "a body that says it is not compressed": [
    withLength(`${POST}content-encoding: identity\r\n`, BODY),
    200,
  ],
  "a host with a space": ["GET /health HTTP/1.1\r\nhost: a b\r\n\r\n", 400],
  "a host that ends in a bracket": ["GET /v1/models HTTP/1.1\r\nhost: [\r\n\r\n", 400],
  "a port of nine digits": ["GET /v1/models HTTP/1.1\r\nhost: x:999999999\r\n\r\n", 400],
  "no host": ["GET /health HTTP/1.1\r\n\r\n", 200],
  "a whole address": ["GET http://other/health HTTP/1.1\r\nhost: x\r\n\r\n", 200],
  "a header of 10 kB": [
    `GET /health HTTP/1.1\r\nhost: x\r\na: ${"a".repeat(10_000)}\r\n\r\n`,
    200,
  ],
  "headers without end": [
    `GET /health HTTP/1.1\r\nhost: x\r\n${"a: b\r\n".repeat(200)}\r\n`,
    400,
  ],
  "a header that goes on in the next line": [
    "GET /health HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
    400,
  ],
  "three requests at once": [`${withLength(POST, BODY)}${HEALTH}${HEALTH}`, 200, 200, 200],
  "a wish to go on": [withLength(`${POST}expect: 100-continue\r\n`, BODY), 100, 200],
  "a wish for another protocol": [
    "GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    200,
  ],
  "the beginning of TLS": ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400],
};

servedTest(
  "Whatever is sent over a socket: the right status, and the next one is served",
  async ({ port }) => {
    for (const [name, [sent, ...wanted]] of Object.entries(CASES)) {
      using connection = await Connection.open(port);
      assertEquals(await statuses(connection, sent, wanted.length), wanted, name);
    }
  },
);

servedTest(
  "HTTP/1.0 gets whole answers and streams that end with the connection",
  async ({ port }) => {
    for (const body of [BODY, STREAM]) {
      const socket = await Deno.connect({ hostname: "127.0.0.1", port });
      const request = withLength(POST.replace("HTTP/1.1", "HTTP/1.0"), body);
      await socket.write(new TextEncoder().encode(request));
      const text = await new Response(socket.readable).text();
      assert(text.startsWith("HTTP/1.0 200"), text);
      assert(text.endsWith(body === STREAM ? "data: [DONE]\n\n" : "}"), text);
      assert(!text.includes("chunked"), text);
    }
  },
);

servedTest(
  "Of a name that is given twice the last value counts, and names of objects are names",
  async ({ port }) => {
    for (
      const body of [
        `{"prompt":1,"prompt":"Hi"}`,
        `{"__proto__":{"prompt":1},"constructor":1,"prompt":"Hi"}`,
      ]
    ) {
      using connection = await Connection.open(port);
      assertEquals(await statuses(connection, withLength(POST, body)), [200]);
    }
  },
);

servedTest(
  "Clients that stop in the middle of a head or a body keep nobody waiting",
  async ({ port }) => {
    using stack = new DisposableStack();
    for (let at = 0; at < 200; at++) {
      const connection = stack.use(await Connection.open(port));
      const whole = withLength(POST, BODY);
      await connection.send(whole.slice(0, at % 2 === 0 ? at % 40 : -1 - at % 10));
    }
    using connection = await Connection.open(port);
    assertEquals(await statuses(connection, withLength(POST, BODY)), [200]);
  },
);
