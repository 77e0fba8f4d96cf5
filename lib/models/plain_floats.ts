/** Values that are stored one by one, of any number: vectors and small layers. */

import { bf16ArrayToF32, f16ArrayToF32 } from "../device/dtype.ts";

/** How they are stored, by the name that safetensors has for it. */
export type PlainDtype = "F32" | "F16" | "BF16";

/** Whether a file's word for a type is one of them. */
export function isPlainDtype(dtype: string | undefined): dtype is PlainDtype {
  return dtype === "F32" || dtype === "F16" || dtype === "BF16";
}

/** The values of little-endian bytes. */
export function plainFloats(dtype: PlainDtype, bytes: Uint8Array): Float32Array {
  const aligned = bytes.slice().buffer;
  if (dtype === "F32") return new Float32Array(aligned);
  const halves = new Uint16Array(aligned);
  const values = new Float32Array(halves.length);
  if (dtype === "F16") f16ArrayToF32(halves, values);
  else bf16ArrayToF32(halves, values);
  return values;
}
