/** Matrices of a stack: the rows of one expert, whole, by halves or in turns, and transposed. */

import { assertEquals, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { decodeRow, sourceRowBytes } from "../../lib/device/block_formats.ts";
import type { FoundTensor, StoredTensor } from "../../lib/models/expected_tensors.ts";
import { MemorySource } from "../helpers/memory_source.ts";
import { mxfp4Tensor, stackedTensor, transposedTensor } from "../../lib/models/stacked_tensor.ts";
import { Random, randomSeed } from "../device/kernel_contract.ts";
import { decodeGguf, randomGguf } from "../helpers/gguf_decode.ts";

const [COUNT, ROWS, K] = [3, 12, 64];

function found(dtype: string, shape: readonly number[], bytes: Uint8Array): FoundTensor {
  const source = new MemorySource("memory", bytes);
  return { name: "stack", dtype, shape, source, position: 0, sizeBytes: bytes.length };
}

/** All rows of a matrix, read in two goes. */
function rowsOf({ made, shape, format, source, position }: StoredTensor): number[][] {
  const [n, k] = shape as [number, number];
  const rowBytes = sourceRowBytes(format, k);
  const bytes = new Uint8Array(n * rowBytes);
  if (made === undefined) source.readAt(position, bytes);
  else {
    made.read(0, 1, bytes.subarray(0, rowBytes));
    made.read(1, n, bytes.subarray(rowBytes));
  }
  return Array.from(
    { length: n },
    (_, row) => [...decodeRow(format, k, bytes.subarray(row * rowBytes, (row + 1) * rowBytes))],
  );
}

const PLACES = [
  { rows: ROWS, first: 0, stride: 1 },
  { rows: ROWS / 2, first: 0, stride: 1 },
  { rows: ROWS / 2, first: ROWS / 2, stride: 1 },
  { rows: ROWS / 2, first: 1, stride: 2 },
];

/** For every matrix and selection the rows that `valueOf` gives. */
function check(
  make: (
    name: { name: string; shape: number[] },
    place: Parameters<typeof stackedTensor>[2],
  ) => StoredTensor,
  value: (index: number, row: number, column: number) => number,
): void {
  for (let index = 0; index < COUNT; index++) {
    for (const { rows, first, stride } of PLACES) {
      const expected = { name: "matrix", shape: [rows, K] };
      const tensor = make(expected, { index, count: COUNT, rows: ROWS, first, stride });
      assertEquals(tensor.name, "matrix");
      assertEquals(
        rowsOf(tensor),
        Array.from(
          { length: rows },
          (_, row) =>
            Array.from({ length: K }, (_, column) => value(index, first + row * stride, column)),
        ),
      );
    }
  }
}

Deno.test("A stack of any type gives the rows of one matrix", () => {
  const random = new Random(randomSeed());
  const floats = Float32Array.from({ length: COUNT * ROWS * K }, () => random.float());
  const plain = found("F32", [COUNT, ROWS, K], new Uint8Array(floats.buffer));
  check(
    (expected, place) => stackedTensor(expected, plain, place),
    (index, row, column) => floats[(index * ROWS + row) * K + column]!,
  );
  const bytes = randomGguf("Q5_1", COUNT * ROWS * K, random);
  const values = decodeGguf("Q5_1", bytes);
  const blocks = found("Q5_1", [COUNT, ROWS, K], bytes);
  check(
    (expected, place) => stackedTensor(expected, blocks, place),
    (index, row, column) => values[(index * ROWS + row) * K + column]!,
  );
  assertThrows(
    () => stackedTensor({ name: "m", shape: [ROWS, 32] }, plain, { index: 0, count: 3, rows: 12 }),
    CheckpointError,
    "the config calls for [3, 12, 32]",
  );
});

Deno.test("A stack of transposed matrices gives their columns", () => {
  const random = new Random(randomSeed());
  const halves = Float16Array.from({ length: COUNT * ROWS * K }, () => random.float());
  const stack = found("F16", [COUNT, K, ROWS], new Uint8Array(halves.buffer));
  check(
    (expected, place) => transposedTensor(expected, stack, place),
    (index, row, column) => halves[(index * K + column) * ROWS + row]!,
  );
  const bad = found("Q8_0", [COUNT, K, ROWS], new Uint8Array(COUNT * K * ROWS));
  assertThrows(
    () => transposedTensor({ name: "m", shape: [ROWS, K] }, bad, { index: 0, count: 3, rows: 12 }),
    CheckpointError,
    "must be F32, F16 or BF16",
  );
});

Deno.test("Blocks and scales of MXFP4 give the rows of one expert", () => {
  const random = new Random(randomSeed());
  const bytes = Uint8Array.from({ length: COUNT * ROWS * K / 2 }, () => random.integer(0, 256));
  const exponents = Uint8Array.from(
    { length: COUNT * ROWS * K / 32 },
    () => random.integer(0, 255),
  );
  const blocks = found("U8", [COUNT, ROWS, K / 32, 16], bytes);
  const scales = found("U8", [COUNT, ROWS, K / 32], exponents);
  const table = [0, 0.5, 1, 1.5, 2, 3, 4, 6];
  check(
    (expected, place) => mxfp4Tensor(expected, { blocks, scales }, place),
    (index, row, column) => {
      const at = (index * ROWS + row) * K + column;
      const code = at % 2 === 0 ? bytes[at >> 1]! & 15 : bytes[at >> 1]! >> 4;
      const size = table[code & 7]! * 2 ** (exponents[at >> 5]! - 127);
      return size === 0 ? 0 : Math.fround(code > 7 ? -size : size);
    },
  );
  assertThrows(
    () =>
      mxfp4Tensor({ name: "m", shape: [ROWS, K] }, { blocks, scales: { ...scales, dtype: "I8" } }, {
        index: 0,
        count: COUNT,
        rows: ROWS,
      }),
    CheckpointError,
    "it is of type I8: it must be U8",
  );
});
