/** Quantised safetensors matrices with random codes, and the values that they stand for. */

import { bf16ToF32, e4m3ToF32, e5m2ToF32, f32ToBf16 } from "../../lib/device/dtype.ts";
import type { Random } from "../device/kernel_contract.ts";
import type { SafetensorsPart } from "./safetensors_writer.ts";

/** A matrix as it is stored, and its values. */
export interface QuantizedMatrix {
  readonly parts: readonly SafetensorsPart[];
  readonly values: Float32Array;
}

/** Makes a matrix [n, k] that is called `name`. */
export type MakeMatrix = (name: string, n: number, k: number, random: Random) => QuantizedMatrix;

/** A kind of checkpoint. */
export interface QuantizedKind {
  readonly what: string;
  readonly config: Readonly<Record<string, unknown>>;
  readonly make: MakeMatrix;
}

type ScaleDtype = "F32" | "BF16" | "F16";

/** Positive scales that their type holds exactly. */
function drawScales(count: number, dtype: ScaleDtype, size: number, random: Random): Float32Array {
  return Float32Array.from({ length: count }, () => {
    const value = size * (0.5 + random.float());
    if (dtype === "BF16") return bf16ToF32(f32ToBf16(value));
    return dtype === "F16" ? Float16Array.of(value)[0]! : value;
  });
}

function floatPart(
  name: string,
  shape: readonly number[],
  dtype: ScaleDtype,
  values: Float32Array,
): SafetensorsPart {
  const bytes = dtype === "F32"
    ? new Uint8Array(values.slice().buffer)
    : dtype === "F16"
    ? new Uint8Array(Float16Array.from(values).buffer)
    : new Uint8Array(Uint16Array.from(values, f32ToBf16).buffer);
  return { name, dtype, shape, bytes };
}

/** One code, then value = (code − zero point) · scale, rounded once. */
function scaled(
  n: number,
  k: number,
  code: (at: number) => number,
  scale: (row: number, column: number) => number,
  zero: (row: number, column: number) => number = () => 0,
): Float32Array {
  return Float32Array.from({ length: n * k }, (_, at) => {
    const [row, column] = [Math.floor(at / k), at % k];
    return (code(at) - zero(row, column)) * scale(row, column);
  });
}

/** F8 under scales by blocks, a row, or one for all. */
function float8(
  dtype: "F8_E4M3" | "F8_E5M2",
  block: readonly [number, number] | "channel" | "tensor",
  scaleDtype: ScaleDtype,
  suffix: string,
): MakeMatrix {
  const valueOf = dtype === "F8_E4M3" ? e4m3ToF32 : e5m2ToF32;
  return (name, n, k, random) => {
    // Of E5M2 only small numbers, so that sums stay in range.
    const codes = Uint8Array.from(
      { length: n * k },
      () => random.integer(0, dtype === "F8_E4M3" ? 0x7f : 0x50) | random.pick([0, 0x80]),
    );
    const [rows, columns] = block === "channel" ? [1, k] : block === "tensor" ? [n, k] : block;
    const shape = [Math.ceil(n / rows), Math.ceil(k / columns)];
    const size = dtype === "F8_E4M3" ? 2 ** -11 : 2 ** -8;
    const scales = drawScales(shape[0]! * shape[1]!, scaleDtype, size, random);
    return {
      parts: [
        { name, dtype, shape: [n, k], bytes: codes },
        floatPart(`${name}${suffix}`, block === "tensor" ? [1] : shape, scaleDtype, scales),
      ],
      values: scaled(
        n,
        k,
        (at) => valueOf(codes[at]!),
        (row, column) => scales[Math.floor(row / rows) * shape[1]! + Math.floor(column / columns)]!,
      ),
    };
  };
}

/** Integers: plain bytes, or 4 or 8 bits packed into I32. */
function integers(
  form: "I8" | "packed4" | "packed8",
  options: {
    readonly group?: number;
    readonly zeroPoints?: "I8" | "packed";
    readonly scaleDtype: ScaleDtype;
  },
): MakeMatrix {
  return (name, n, k, random) => {
    const bits = form === "packed4" ? 4 : 8;
    const half = 2 ** (bits - 1);
    const { group = k, zeroPoints, scaleDtype } = options;
    const columns = Math.ceil(k / group);
    const codes = Int8Array.from({ length: n * k }, () => random.integer(-half, half));
    const scales = drawScales(n * columns, scaleDtype, 0.3 / half, random);
    const zeros = Int8Array.from(
      { length: n * columns },
      () => zeroPoints === undefined ? 0 : random.integer(-half, half),
    );
    const module = name.slice(0, -"weight".length);
    const parts: SafetensorsPart[] = [
      floatPart(`${module}weight_scale`, [n, columns], scaleDtype, scales),
    ];
    if (form === "I8") {
      parts.push({ name, dtype: "I8", shape: [n, k], bytes: new Uint8Array(codes.buffer) });
    } else {
      const bytes = packRows(codes, n, k, bits);
      parts.push(
        { name: `${name}_packed`, dtype: "I32", shape: [n, bytes.length / n / 4], bytes },
        {
          name: `${module}weight_shape`,
          dtype: "I64",
          shape: [2],
          bytes: new Uint8Array(BigInt64Array.of(BigInt(n), BigInt(k)).buffer),
        },
      );
    }
    if (zeroPoints !== undefined) {
      const zeroName = `${module}weight_zero_point`;
      parts.push(
        zeroPoints === "I8"
          ? {
            name: zeroName,
            dtype: "I8",
            shape: [n, columns],
            bytes: new Uint8Array(zeros.buffer),
          }
          : {
            name: zeroName,
            dtype: "I32",
            shape: [Math.ceil(n * bits / 32), columns],
            bytes: packColumns(zeros, n, columns, bits),
          },
      );
    }
    const cell = (row: number, column: number) => row * columns + Math.floor(column / group);
    const values = scaled(
      n,
      k,
      (at) => codes[at]!,
      (row, column) => scales[cell(row, column)]!,
      (row, column) => zeros[cell(row, column)]!,
    );
    return { parts, values };
  };
}

/** Codes along a row into words, the first in the lowest bits. */
function packRows(codes: Int8Array, n: number, k: number, bits: number): Uint8Array {
  const words = new Uint32Array(n * Math.ceil(k * bits / 32));
  for (let at = 0; at < n * k; at++) {
    const [row, column] = [Math.floor(at / k), at % k];
    const word = row * (words.length / n) + Math.floor(column * bits / 32);
    words[word]! |= (codes[at]! + 2 ** (bits - 1)) << (column * bits % 32);
  }
  return new Uint8Array(words.buffer);
}

/** Codes along a column into words. */
function packColumns(codes: Int8Array, n: number, columns: number, bits: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(n * bits / 32) * columns);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < columns; column++) {
      const code = codes[row * columns + column]! + 2 ** (bits - 1);
      words[Math.floor(row * bits / 32) * columns + column]! |= code << (row * bits % 32);
    }
  }
  return new Uint8Array(words.buffer);
}

const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6];

/** Floats of four bits. */
function float4(kind: "nvfp4" | "mxfp4"): MakeMatrix {
  return (name, n, k, random) => {
    const group = kind === "nvfp4" ? 16 : 32;
    const module = name.slice(0, -"weight".length);
    const bytes = Uint8Array.from({ length: n * k / 2 }, () => random.integer(0, 256));
    const cells = Uint8Array.from(
      { length: n * k / group },
      () => kind === "nvfp4" ? random.integer(1, 0x7f) : random.integer(119, 126),
    );
    const divisor = Math.fround(500 + 1000 * random.float());
    const values = scaled(
      n,
      k,
      (at) => {
        const code = at % 2 === 0 ? bytes[at >> 1]! & 15 : bytes[at >> 1]! >> 4;
        return E2M1[code & 7]! * (code > 7 ? -1 : 1);
      },
      (row, column) => {
        const cell = cells[row * (k / group) + Math.floor(column / group)]!;
        return kind === "nvfp4" ? Math.fround(e4m3ToF32(cell) / divisor) : 2 ** (cell - 127);
      },
    );
    const shape = [n, k / group];
    const scale = `${module}weight_scale`;
    const parts: SafetensorsPart[] = [
      { name: `${module}weight_packed`, dtype: "U8", shape: [n, k / 2], bytes },
      { name: scale, dtype: kind === "nvfp4" ? "F8_E4M3" : "U8", shape, bytes: cells },
    ];
    if (kind === "nvfp4") {
      const name = `${module}weight_global_scale`;
      parts.push(floatPart(name, [1], "F32", Float32Array.of(divisor)));
    }
    return { parts, values };
  };
}

function compressed(format: string, weights: Record<string, unknown>): Record<string, unknown> {
  return {
    quant_method: "compressed-tensors",
    format,
    quantization_status: "compressed",
    ignore: ["lm_head"],
    config_groups: { group_0: { targets: ["Linear"], weights, input_activations: null } },
  };
}

const FP8 = { quant_method: "fp8", activation_scheme: "dynamic", weight_block_size: [128, 128] };
const BLOCKS = compressed("float-quantized", {
  num_bits: 8,
  type: "float",
  strategy: "block",
  block_structure: [128, 128],
});
const float = (strategy: "channel" | "tensor") =>
  compressed("float-quantized", { num_bits: 8, type: "float", strategy, group_size: null });
const int8 = (symmetric: boolean) =>
  compressed("int-quantized", { num_bits: 8, type: "int", symmetric, strategy: "channel" });
const packed = (num_bits: number, symmetric: boolean, group_size?: number) =>
  compressed("pack-quantized", {
    num_bits,
    type: "int",
    symmetric,
    strategy: group_size === undefined ? "channel" : "group",
    group_size: group_size ?? null,
    actorder: null,
    dynamic: false,
  });

/** Every kind that is read. */
export const QUANTIZED_KINDS: readonly QuantizedKind[] = [
  {
    what: "fp8 by blocks",
    config: FP8,
    make: float8("F8_E4M3", [128, 128], "F32", "_scale_inv"),
  },
  {
    what: "fp8 by blocks under BF16",
    config: FP8,
    make: float8("F8_E4M3", [128, 128], "BF16", "_scale_inv"),
  },
  {
    what: "fp8 as E5M2 under one scale",
    config: { ...FP8, fmt: "e5m2", weight_block_size: null },
    make: float8("F8_E5M2", "tensor", "F32", "_scale_inv"),
  },
  {
    what: "float-quantized by blocks",
    config: BLOCKS,
    make: float8("F8_E4M3", [128, 128], "BF16", "_scale"),
  },
  {
    what: "float-quantized by channel",
    config: float("channel"),
    make: float8("F8_E4M3", "channel", "BF16", "_scale"),
  },
  {
    what: "float-quantized by tensor",
    config: float("tensor"),
    make: float8("F8_E4M3", "tensor", "F32", "_scale"),
  },
  { what: "int-quantized", config: int8(true), make: integers("I8", { scaleDtype: "F32" }) },
  {
    what: "int-quantized with zero points",
    config: int8(false),
    make: integers("I8", { scaleDtype: "BF16", zeroPoints: "I8" }),
  },
  {
    what: "W8A16 by channel",
    config: packed(8, true),
    make: integers("packed8", { scaleDtype: "BF16" }),
  },
  {
    what: "W8A16 with zero points",
    config: packed(8, false, 64),
    make: integers("packed8", { scaleDtype: "F16", group: 64, zeroPoints: "packed" }),
  },
  {
    what: "W4A16 by groups of 32",
    config: packed(4, true, 32),
    make: integers("packed4", { scaleDtype: "F32", group: 32 }),
  },
  {
    what: "W4A16 by groups of 64",
    config: packed(4, true, 64),
    make: integers("packed4", { scaleDtype: "BF16", group: 64 }),
  },
  {
    what: "W4A16 with zero points",
    config: packed(4, false, 32),
    make: integers("packed4", { scaleDtype: "BF16", group: 32, zeroPoints: "packed" }),
  },
  {
    what: "W4A16 with zero points under F32",
    config: packed(4, false, 32),
    make: integers("packed4", { scaleDtype: "F32", group: 32, zeroPoints: "packed" }),
  },
  {
    what: "NVFP4A16",
    config: compressed("nvfp4-pack-quantized", { num_bits: 4, type: "float", group_size: 16 }),
    make: float4("nvfp4"),
  },
  {
    what: "MXFP4A16",
    config: compressed("mxfp4-pack-quantized", { num_bits: 4, type: "float", group_size: 32 }),
    make: float4("mxfp4"),
  },
];
