/** Vectors on the wire: numbers, or their float32 bits in base64. */

import type { Fields } from "./body.ts";
import { badRequest } from "./errors.ts";

/** How a request wants its vectors. */
export interface VectorFormat {
  readonly encoding: "float" | "base64";
  readonly isBigEndian: boolean;
}

/** One vector, or one a token. */
type Vectors = Float32Array | readonly Float32Array[];

/** Reads `encoding_format`, and what vLLM lets a request say of the bytes. */
export function readVectorFormat(fields: Fields): VectorFormat {
  const encoding = fields.choice("encoding_format", ["float", "base64"]) ?? "float";
  const dtypes = ["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"];
  const dtype = fields.choice("embed_dtype", dtypes) ?? "float32";
  if (dtype !== "float32") {
    throw badRequest(
      `embed_dtype is not supported yet, got "${dtype}": leave it out, or give "float32"`,
      "embed_dtype",
    );
  }
  const endianness = fields.choice("endianness", ["native", "big", "little"]) ?? "native";
  return { encoding: encoding as "float" | "base64", isBigEndian: endianness === "big" };
}

/** A vector as an array of numbers, several as an array of arrays; in base64 all of them as one text. */
export function wireVectors(
  data: Vectors,
  { encoding, isBigEndian }: VectorFormat,
): string | number[] | number[][] {
  if (encoding === "base64") return base64(data, isBigEndian);
  return data instanceof Float32Array ? [...data] : data.map((row) => [...row]);
}

/** The float32 bits of all numbers, the first lowest byte first unless big-endian is asked for. */
function base64(data: Vectors, isBigEndian: boolean): string {
  const rows = data instanceof Float32Array ? [data] : data;
  const size = rows.reduce((sum, row) => sum + row.byteLength, 0);
  const view = new DataView(new ArrayBuffer(size));
  let offset = 0;
  for (const row of rows) {
    for (const value of row) {
      view.setFloat32(offset, value, !isBigEndian);
      offset += Float32Array.BYTES_PER_ELEMENT;
    }
  }
  return new Uint8Array(view.buffer).toBase64();
}
