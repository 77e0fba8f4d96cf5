/** Numbers in fewer bits, as vLLM sends vectors: rounded to the nearest, of two the one that ends in 0. */

/** How numbers may be sent. */
export const NUMBER_FORMATS = ["float32", "float16", "bfloat16", "fp8_e4m3", "fp8_e5m2"] as const;

/** One of them. */
export type NumberFormat = typeof NUMBER_FORMATS[number];

/** Bytes a number. */
export const NUMBER_BYTES: Readonly<Record<NumberFormat, number>> = {
  float32: 4,
  float16: 2,
  bfloat16: 2,
  fp8_e4m3: 1,
  fp8_e5m2: 1,
};

/** Writes numbers one behind the other from a byte on. */
export function writeNumbers(
  view: DataView,
  offset: number,
  values: Float32Array,
  { format, littleEndian }: { readonly format: NumberFormat; readonly littleEndian: boolean },
): void {
  const width = NUMBER_BYTES[format];
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let index = 0; index < values.length; index++) {
    const at = offset + width * index;
    const value = values[index] as number;
    const source = bits[index] as number;
    switch (format) {
      case "float32":
        view.setFloat32(at, value, littleEndian);
        break;
      case "float16":
        view.setFloat16(at, value, littleEndian);
        break;
      case "bfloat16":
        view.setUint16(at, bfloat16(value, source), littleEndian);
        break;
      case "fp8_e4m3":
        view.setUint8(at, float8(value, source, E4M3));
        break;
      case "fp8_e5m2":
        view.setUint8(at, float8(value, source, E5M2));
        break;
      default:
        format satisfies never;
    }
  }
}

/** The upper half of a float32's bits, rounded. */
function bfloat16(value: number, bits: number): number {
  if (Number.isNaN(value)) return 0x7fc0;
  return (bits + 0x7fff + (bits >>> 16 & 1)) >>> 16 & 0xffff;
}

/** Eight bits: a sign, an exponent and a mantissa. */
interface Float8 {
  readonly mantissaBits: number;
  readonly bias: number;
  /** The largest finite code, and the one of what is beyond: that of infinity, or of no number. */
  readonly largest: number;
  readonly beyond: number;
}

/** Without infinities, as PyTorch's `float8_e4m3fn`. */
const E4M3: Float8 = { mantissaBits: 3, bias: 7, largest: 0x7e, beyond: 0x7f };
const E5M2: Float8 = { mantissaBits: 2, bias: 15, largest: 0x7b, beyond: 0x7c };

function float8(
  value: number,
  bits: number,
  { mantissaBits, bias, largest, beyond }: Float8,
): number {
  if (Number.isNaN(value)) return 0x7f;
  const sign = bits >>> 31 << 7;
  const least = 1 - bias; // below it, numbers are as far from each other as at it
  const exponent = Math.max(least, (bits >>> 23 & 0xff) - 127);
  const steps = roundToEven(Math.abs(value) / 2 ** (exponent - mantissaBits));
  // A mantissa that is full goes over into the exponent, which stands right above it.
  const code = (exponent - least << mantissaBits) + steps;
  return sign | (code > largest ? beyond : code);
}

function roundToEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || rest === 0.5 && below % 2 === 1 ? below + 1 : below;
}
