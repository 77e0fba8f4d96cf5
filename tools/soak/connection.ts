/**
 * HTTP/1.1 over a bare socket: `fetch` can neither cut a connection at a chosen byte, nor send half
 * a body, nor close one direction only.
 */

/** The first lines of an answer. */
export interface AnswerHead {
  readonly status: number;
  readonly headers: Headers;
}

/** The server closed the connection before its answer was complete. */
export class CutError extends Error {
  override name = "CutError";
}

/** How much a socket is asked for at once. */
const READ_SIZE = 16_384;

/** One connection. */
export class Connection implements Disposable {
  readonly #socket: Deno.TcpConn;
  #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #isClosed = false;
  /** Called before each read; a slow reader waits here. */
  beforeRead: () => Promise<void> | undefined = () => undefined;

  private constructor(socket: Deno.TcpConn) {
    this.#socket = socket;
  }

  static async open(port: number): Promise<Connection> {
    return new Connection(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** Writes it all. A server that has hung up meanwhile may have answered all the same. */
  async send(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
    try {
      for (let at = 0; at < bytes.length;) at += await this.#socket.write(bytes.subarray(at));
    } catch (error) {
      if (!isHangUp(error)) throw error;
    }
  }

  /** Sends a request with a body of known length. */
  async post(path: string, body: string, contentType = "application/json"): Promise<void> {
    const bytes = new TextEncoder().encode(body);
    await this.send(
      `POST ${path} HTTP/1.1\r\nhost: soak\r\ncontent-type: ${contentType}\r\n` +
        `content-length: ${bytes.length}\r\n\r\n`,
    );
    await this.send(bytes);
  }

  /** Asks for a page. */
  async get(path: string): Promise<void> {
    await this.send(`GET ${path} HTTP/1.1\r\nhost: soak\r\n\r\n`);
  }

  /** Tells the server that nothing more will be sent; answers can still be read. */
  async closeWriting(): Promise<void> {
    await this.#socket.closeWrite();
  }

  /** Reads an answer up to its body. */
  async readHead(): Promise<AnswerHead> {
    const [first = "", ...lines] = (await this.#readUntil("\r\n\r\n")).split("\r\n");
    const status = /^HTTP\/1\.[01] (\d{3})\b/.exec(first)?.[1];
    if (status === undefined) throw new Error(`Not the first line of an answer: "${first}"`);
    const headers = new Headers(
      lines.filter((line) => line !== "").map((line) => {
        const colon = line.indexOf(":");
        return [line.slice(0, colon), line.slice(colon + 1).trim()] as [string, string];
      }),
    );
    return { status: Number(status), headers };
  }

  /** The body of the answer with that head, piece by piece. */
  async *readBody({ headers }: AnswerHead): AsyncGenerator<Uint8Array, void, void> {
    if (headers.get("transfer-encoding") !== "chunked") {
      yield await this.#take(Number(headers.get("content-length") ?? 0));
      return;
    }
    while (true) {
      const size = Number.parseInt(await this.#readUntil("\r\n"), 16);
      if (!Number.isSafeInteger(size)) throw new Error("A chunk has no size");
      const piece = await this.#take(size);
      if (await this.#readUntil("\r\n") !== "") throw new Error("A chunk is longer than it says");
      if (size === 0) return;
      yield piece;
    }
  }

  /** A whole answer. */
  async readAnswer(): Promise<{ readonly status: number; readonly text: string }> {
    const head = await this.readHead();
    const decoder = new TextDecoder("utf-8", { fatal: true });
    let text = "";
    for await (const piece of this.readBody(head)) text += decoder.decode(piece, { stream: true });
    return { status: head.status, text: text + decoder.decode() };
  }

  [Symbol.dispose](): void {
    if (!this.#isClosed) this.#socket.close();
    this.#isClosed = true;
  }

  async #readUntil(mark: string): Promise<string> {
    const decoder = new TextDecoder("latin1");
    for (let searched = 0;;) {
      const at = decoder.decode(this.#bytes.subarray(searched)).indexOf(mark);
      if (at >= 0) {
        const text = decoder.decode(this.#bytes.subarray(0, searched + at));
        this.#bytes = this.#bytes.slice(searched + at + mark.length);
        return text;
      }
      searched = Math.max(0, this.#bytes.length - mark.length + 1);
      await this.#fill();
    }
  }

  async #take(count: number): Promise<Uint8Array> {
    while (this.#bytes.length < count) await this.#fill();
    const taken = this.#bytes.slice(0, count);
    this.#bytes = this.#bytes.slice(count);
    return taken;
  }

  async #fill(): Promise<void> {
    await this.beforeRead();
    const more = new Uint8Array(READ_SIZE);
    let count: number | null;
    try {
      count = await this.#socket.read(more);
    } catch (error) {
      if (!isHangUp(error)) throw error;
      throw new CutError("The connection was reset");
    }
    if (count === null) throw new CutError("The connection was closed");
    const joined = new Uint8Array(this.#bytes.length + count);
    joined.set(this.#bytes);
    joined.set(more.subarray(0, count), this.#bytes.length);
    this.#bytes = joined;
  }
}

/** Whether the other side is gone. */
function isHangUp(error: unknown): boolean {
  return error instanceof Deno.errors.ConnectionReset ||
    error instanceof Deno.errors.BrokenPipe || error instanceof Deno.errors.ConnectionAborted ||
    error instanceof Deno.errors.NotConnected;
}
