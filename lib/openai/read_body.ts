/** A request's body: read within limits and parsed. */

import { badShape, HttpError, show } from "./errors.ts";
import { brokenTextPath, JsonError, parseJson } from "./json.ts";

/**
 * The text of a JSON request.
 *
 * @param sizeLimit the largest body in bytes; a longer one is refused before it is read whole
 */
export async function readText(request: Request, sizeLimit: number): Promise<string> {
  if (Number(request.headers.get("content-length") ?? 0) > sizeLimit) {
    await request.body?.cancel();
    throw tooLarge(sizeLimit);
  }
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > sizeLimit) throw tooLarge(sizeLimit); // leaving the loop cancels the rest
    chunks.push(chunk);
  }
  const bytes = new Uint8Array(size);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.length;
  }
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw badShape("JSON decode error: the body is not UTF-8 (json_invalid)", "0");
  }
}

/** Refuses what is not said to be JSON. */
export function checkMediaType(request: Request): void {
  const header = request.headers.get("content-type") ?? "";
  const mediaType = (header.split(";", 1)[0] as string).trim();
  if (mediaType.toLowerCase() === "application/json") return;
  throw new HttpError(
    415,
    `Unsupported Media Type: Only 'application/json' is allowed, got ${show(mediaType)}`,
  );
}

function tooLarge(sizeLimit: number): HttpError {
  return new HttpError(413, `Cannot read a body of more than ${sizeLimit} bytes`);
}

/** The value that a text stands for; all its texts are Unicode. */
export function parseBody(text: string): unknown {
  let value: unknown;
  try {
    value = parseJson(text);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw badShape(`JSON decode error: ${error.message} (json_invalid)`, String(error.position));
  }
  const broken = brokenTextPath(text, value);
  if (broken === undefined) return value;
  throw badShape(
    `Cannot use ${broken}: it must be Unicode, and holds half a surrogate pair (string_unicode)`,
    broken,
  );
}
