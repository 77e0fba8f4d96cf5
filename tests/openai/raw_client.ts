/** The handler on a socket, and clients that do with their sockets what `fetch` would not. */

import { handler, type ServedModel } from "../../lib/openai/handler.ts";

/** A server on a socket, and raw clients of it. */
export class Served implements AsyncDisposable {
  readonly server: Deno.HttpServer<Deno.NetAddr>;

  constructor(llm: ServedModel) {
    const address = { port: 0, hostname: "127.0.0.1", onListen() {} };
    this.server = Deno.serve(address, handler(llm));
  }

  /** Sends a request and leaves the connection open. */
  async send(path: string, body: unknown): Promise<Deno.TcpConn> {
    const bytes = new TextEncoder().encode(JSON.stringify(body));
    const head = `POST ${path} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n` +
      `content-length: ${bytes.length}\r\n\r\n`;
    const { port } = this.server.addr;
    const client = await Deno.connect({ port, hostname: "127.0.0.1" });
    await writeAll(client, new TextEncoder().encode(head));
    await writeAll(client, bytes);
    return client;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.shutdown();
  }
}

async function writeAll(client: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await client.write(bytes.subarray(at));
}

/** Reads until a text was there; all that was read. */
export async function readUntil(client: Deno.TcpConn, text: string): Promise<string> {
  const buffer = new Uint8Array(65_536);
  const decoder = new TextDecoder();
  const pieces: string[] = [];
  let tail = ""; // where the text may be, so that long answers are not searched again and again
  while (!tail.includes(text)) {
    const count = await client.read(buffer);
    if (count === null) throw new Error(`The connection ended after: ${tail.slice(-500)}`);
    const piece = decoder.decode(buffer.subarray(0, count), { stream: true });
    pieces.push(piece);
    tail = tail.slice(-text.length) + piece;
  }
  return pieces.join("");
}
