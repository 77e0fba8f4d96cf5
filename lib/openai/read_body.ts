/** A request's body: read within limits, piece by piece as it comes in, and parsed. */

import { Turns } from "../base/turns.ts";
import { badShape, HttpError, show } from "./errors.ts";
import { brokenTextPath, JsonError, JsonScan, parseScannedJson } from "./json.ts";

/** So many pieces become one: kept one by one, chunks of a byte would take many times their size. */
const PIECES_MAX = 1024;
/** Bytes that are looked at between two looks at the clock. */
const SLICE_BYTES = 65_536;

/** A body's text, and the value it stands for. */
export interface JsonBody {
  readonly text: string;
  readonly value: unknown;
}

/** Refuses what is not said to be JSON, or is packed. */
export function checkMediaType({ headers }: Request): void {
  const mediaType = ((headers.get("content-type") ?? "").split(";", 1)[0] as string).trim();
  if (mediaType.toLowerCase() !== "application/json") {
    throw new HttpError(
      415,
      `Unsupported Media Type: Only 'application/json' is allowed, got ${show(mediaType)}`,
    );
  }
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding.trim().toLowerCase() !== "identity") {
    throw new HttpError(
      415,
      `Unsupported Media Type: Cannot read a body with the content-encoding ${show(encoding)}: ` +
        "send it without one",
    );
  }
}

/**
 * Reads JSON whose texts are all Unicode.
 *
 * @param sizeLimit the largest body in bytes; a longer one is refused before it is read whole
 */
export async function readJson(request: Request, sizeLimit: number): Promise<JsonBody> {
  let body: JsonBody;
  try {
    const text = await readText(request, sizeLimit);
    body = { text, value: parseScannedJson(text) };
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw badShape(`JSON decode error: ${error.message} (json_invalid)`, String(error.position));
  }
  const broken = brokenTextPath(body.text, body.value);
  if (broken === undefined) return body;
  throw badShape(
    `Cannot use ${broken}: it must be Unicode, and holds half a surrogate pair (string_unicode)`,
    broken,
  );
}

/** Everything but the parsing itself is done piece by piece, as the body comes in. */
async function readText(request: Request, sizeLimit: number): Promise<string> {
  if (Number(request.headers.get("content-length") ?? 0) > sizeLimit) {
    await request.body?.cancel();
    throw tooLarge(sizeLimit);
  }
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const scan = new JsonScan();
  const texts: string[] = [];
  let pieces: string[] = [];
  const turns = new Turns();
  for await (const chunk of receive(request, sizeLimit)) {
    for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
      if (turns.isOver) await turns.next();
      const piece = decode(decoder, chunk.subarray(at, at + SLICE_BYTES));
      scan.add(piece);
      pieces.push(piece);
      if (pieces.length === PIECES_MAX) {
        texts.push(pieces.join(""));
        pieces = [];
      }
    }
  }
  pieces.push(decode(decoder));
  return texts.join("") + pieces.join("");
}

/** The chunks of a body within its limit; what goes wrong with them is the client's doing. */
async function* receive(
  request: Request,
  sizeLimit: number,
): AsyncGenerator<Uint8Array<ArrayBuffer>, void, void> {
  let size = 0;
  try {
    for await (const chunk of request.body ?? []) {
      size += chunk.length;
      if (size > sizeLimit) throw tooLarge(sizeLimit); // leaving the loop cancels the rest
      yield chunk;
    }
  } catch (error) {
    // A TypeError: who passed the request on has read its body already.
    if (error instanceof HttpError || error instanceof TypeError) throw error;
    // The client left before its body was complete, or cut it into chunks that are none.
    throw new HttpError(400, "Cannot read the body: it ends too early or is not framed as it says");
  }
}

function decode(decoder: TextDecoder, bytes?: Uint8Array<ArrayBuffer>): string {
  try {
    return bytes === undefined ? decoder.decode() : decoder.decode(bytes, { stream: true });
  } catch {
    throw badShape("JSON decode error: the body is not UTF-8 (json_invalid)", "0");
  }
}

function tooLarge(sizeLimit: number): HttpError {
  return new HttpError(413, `Cannot read a body of more than ${sizeLimit} bytes`);
}
