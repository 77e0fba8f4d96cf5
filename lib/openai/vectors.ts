/** Vectors on the wire: numbers, or their bits in base64. */

import type { Fields } from "./body.ts";
import { NUMBER_BYTES, NUMBER_FORMATS, type NumberFormat, writeNumbers } from "./small_floats.ts";

/** How a request wants its vectors. */
export interface VectorFormat {
  readonly encoding: "float" | "base64";
  /** How a number is written in base64. */
  readonly format: NumberFormat;
  readonly littleEndian: boolean;
}

/** One vector, or one a token. */
type Vectors = Float32Array | readonly Float32Array[];

/** Reads `encoding_format`, and what vLLM lets a request say of the bytes. */
export function readVectorFormat(fields: Fields): VectorFormat {
  return {
    encoding: fields.choice("encoding_format", ["float", "base64"]) ?? "float",
    format: fields.choice("embed_dtype", NUMBER_FORMATS) ?? "float32",
    littleEndian: fields.choice("endianness", ["native", "big", "little"]) !== "big",
  };
}

/** A vector as an array of numbers, several as an array of arrays; in base64 all of them as one text. */
export function wireVectors(
  data: Vectors,
  format: VectorFormat,
): string | number[] | number[][] {
  if (format.encoding === "base64") return base64(data, format);
  return data instanceof Float32Array ? [...data] : data.map((row) => [...row]);
}

/** The bits of all numbers, of each the lowest byte first unless big-endian is asked for. */
function base64(data: Vectors, format: VectorFormat): string {
  const rows = data instanceof Float32Array ? [data] : data;
  const width = NUMBER_BYTES[format.format];
  const count = rows.reduce((sum, row) => sum + row.length, 0);
  const view = new DataView(new ArrayBuffer(count * width));
  let offset = 0;
  for (const row of rows) {
    writeNumbers(view, offset, row, format);
    offset += width * row.length;
  }
  return new Uint8Array(view.buffer).toBase64();
}
