/** GGUF headers: what is read, and every lie that is refused. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import type { ByteSource } from "../../lib/models/formats/byte_source.ts";
import { MemorySource } from "../helpers/memory_source.ts";
import { type GgufHeader, readGgufHeader } from "../../lib/models/formats/gguf.ts";
import { ggufBytes, type GgufEntry, type GgufPart } from "../helpers/gguf_writer.ts";
import { mutate, seededRandom } from "../helpers/mutations.ts";
import { concatBytes } from "../helpers/safetensors_writer.ts";

const A: GgufPart = { name: "a", typeId: 0, shape: [2, 3], bytes: new Uint8Array(24).fill(1) };
const B: GgufPart = { name: "b", typeId: 8, shape: [2, 64], bytes: new Uint8Array(136).fill(2) };

const METADATA: [string, GgufEntry][] = [
  ["general.architecture", { type: "string", value: "llama" }],
  ["a.u32", { type: "u32", value: 4_000_000_000 }],
  ["a.i32", { type: "i32", value: -7 }],
  ["a.f32", { type: "f32", value: 0.5 }],
  ["a.u64", { type: "u64", value: 12n }],
  ["a.large", { type: "u64", value: 2n ** 63n }],
  ["a.bool", { type: "bool", value: 1 }],
  ["a.texts", { type: "strings", value: ["", "Ġthe", "é", "🚀", "日本", "x".repeat(100)] }],
  ["a.numbers", { type: "i32s", value: [1, -1, 3] }],
];

function read(bytes: Uint8Array): GgufHeader {
  return readGgufHeader(new MemorySource("m.gguf", bytes));
}

Deno.test("A GGUF header gives metadata by type, and shapes with the outputs first", () => {
  const bytes = ggufBytes(METADATA, [A, B]);
  const { metadata, tensors } = read(bytes);
  assertEquals(Object.fromEntries(metadata), {
    "general.architecture": "llama",
    "a.u32": 4_000_000_000,
    "a.i32": -7,
    "a.f32": 0.5,
    "a.u64": 12,
    "a.large": 2n ** 63n,
    "a.bool": true,
    "a.texts": ["", "Ġthe", "é", "🚀", "日本", "x".repeat(100)],
    "a.numbers": [1, -1, 3],
  });
  const [a, b] = [tensors.get("a"), tensors.get("b")];
  assert(a !== undefined && b !== undefined);
  assertEquals([a.type, a.shape, a.sizeBytes], ["F32", [2, 3], 24]);
  assertEquals([b.type, b.shape, b.sizeBytes], ["Q8_0", [2, 64], 136]);
  assertEquals(bytes.subarray(a.position, a.position + 24), A.bytes);
  assertEquals(bytes.subarray(b.position, b.position + 136), B.bytes);
});

Deno.test("GGUF version 2 and a stated alignment are read", () => {
  const metadata: [string, GgufEntry][] = [["general.alignment", { type: "u32", value: 32 }]];
  assertEquals(read(ggufBytes(metadata, [A], { version: 2 })).tensors.size, 1);
});

Deno.test("A GGUF header that is longer than the reading window is read whole", () => {
  const value = Array.from({ length: 60_000 }, (_, i) => `Ġtoken${i}`);
  const long = "é".repeat(1_500_000);
  const bytes = ggufBytes([
    ["tokens", { type: "strings", value }],
    ["long", { type: "string", value: long }],
    ["after", { type: "u32", value: 9 }],
  ], [A]);
  const { metadata, tensors } = read(bytes);
  assertEquals(metadata.get("tokens"), value);
  assertEquals(metadata.get("long"), long);
  assertEquals(metadata.get("after"), 9);
  assertEquals(tensors.size, 1);
});

const text = (value: string): GgufEntry => ({ type: "string", value });
const one = (entry: GgufEntry): [string, GgufEntry][] => [["key", entry]];

/** The file with the bytes from `at` on replaced. */
function patch(file: Uint8Array, at: number, bytes: readonly number[]): Uint8Array {
  const patched = Uint8Array.from(file);
  patched.set(bytes, at);
  return patched;
}

// With one entry called "key", its type is at 24 + 8 + 3, and its value right after.
const TYPE_AT = 35;
const VALUE_AT = 39;
const HUGE = [0, 0, 0, 0, 0, 0, 0, 0x10];

const LIES: readonly [what: string, file: () => Uint8Array, says: string][] = [
  ["no bytes", () => new Uint8Array(0), "not a GGUF file"],
  [
    "another magic number",
    () => patch(ggufBytes([], []), 0, [0x47, 0x47, 0x4d, 0x4c]),
    "not a GGUF",
  ],
  ["version 1", () => ggufBytes([], [], { version: 1 }), "version 1"],
  ["version 4", () => ggufBytes([], [], { version: 4 }), "version 4"],
  ["big-endian bytes", () => ggufBytes([], [], { version: 0x0300_0000 }), "big-endian"],
  ["a huge tensor count", () => ggufBytes([], [A], { tensorCount: 2n ** 60n }), "tensors"],
  ["a negative tensor count", () => ggufBytes([], [A], { tensorCount: 2n ** 64n - 1n }), "tensors"],
  [
    "a huge entry count",
    () => ggufBytes([], [A], { metadataCount: 2n ** 40n }),
    "metadata entries",
  ],
  [
    "a key given twice",
    () => ggufBytes([["k", text("a")], ["k", text("b")]], []),
    '"k" appears twice',
  ],
  ["an empty key", () => ggufBytes([["", text("a")]], []), "metadata entry 0"],
  ["a key with a zero byte", () => ggufBytes([["a\0", text("a")]], []), "zero bytes"],
  ["an over-long key", () => ggufBytes([["k".repeat(70_000), text("a")]], []), "65535"],
  ["a huge string", () => patch(ggufBytes(one(text("abc")), [A]), VALUE_AT, HUGE), '"key" claims'],
  [
    "a string that is not UTF-8",
    () => patch(ggufBytes(one(text("abc")), []), VALUE_AT + 8, [0xff]),
    '"key" is not valid UTF-8',
  ],
  [
    "an unknown value type",
    () => patch(ggufBytes(one(text("abc")), []), TYPE_AT, [13]),
    "unknown type 13",
  ],
  [
    "an array of arrays",
    () => patch(ggufBytes(one({ type: "i32s", value: [1] }), []), VALUE_AT, [9]),
    "array of arrays",
  ],
  [
    "an array of unknown items",
    () => patch(ggufBytes(one({ type: "i32s", value: [1] }), []), VALUE_AT, [77]),
    "unknown type 77",
  ],
  [
    "a huge array",
    () => patch(ggufBytes(one({ type: "i32s", value: [1] }), [A]), VALUE_AT + 4, HUGE),
    '"key" claims',
  ],
  [
    "a truth value of 2",
    () => ggufBytes(one({ type: "bool", value: 2 }), []),
    '"key" is a truth value',
  ],
  [
    "an alignment that is no power of two",
    () => ggufBytes([["general.alignment", { type: "u32", value: 24 }]], [A]),
    "general.alignment",
  ],
  [
    "an alignment of zero",
    () => ggufBytes([["general.alignment", { type: "u32", value: 0 }]], [A]),
    "general.alignment",
  ],
  [
    "an alignment that is text",
    () => ggufBytes([["general.alignment", text("32")]], [A]),
    "general.alignment",
  ],
  ["a tensor described twice", () => ggufBytes([], [A, A]), '"a" is described twice'],
  ["an unknown tensor type", () => ggufBytes([], [{ ...A, typeId: 41 }]), '"a" is of type 41'],
  ["a withdrawn tensor type", () => ggufBytes([], [{ ...A, typeId: 4 }]), '"a" is of type 4'],
  ["rows that fill no block", () => ggufBytes([], [{ ...B, shape: [4, 40] }]), "multiple of 32"],
  ["five dimensions", () => ggufBytes([], [{ ...A, shape: [1, 1, 1, 2, 3] }]), "5 dimensions"],
  ["no dimensions", () => ggufBytes([], [{ ...A, shape: [] }]), "0 dimensions"],
  ["a dimension of zero", () => ggufBytes([], [{ ...A, shape: [0, 3] }]), '"a" has dimension 0'],
  [
    "dimensions whose product overflows",
    () => ggufBytes([], [{ ...A, shape: [2 ** 40, 2 ** 40] }]),
    '"a" has dimension',
  ],
  ["an over-long tensor name", () => ggufBytes([], [{ ...A, name: "x".repeat(64) }]), "at most 63"],
  ["an empty tensor name", () => ggufBytes([], [{ ...A, name: "" }]), "tensor 0"],
  ["tensors that overlap", () => ggufBytes([], [A, B], { offsets: { b: 0n } }), '"b" begins at 0'],
  [
    "a hole between tensors",
    () => ggufBytes([], [A, B], { offsets: { b: 64n } }),
    "should begin at 32",
  ],
  [
    "an offset out of range",
    () => ggufBytes([], [A, B], { offsets: { b: 2n ** 63n } }),
    '"b" begins at 9223372036854775808',
  ],
  ["a tensor past the end", () => ggufBytes([], [A, { ...B, shape: [9, 64] }]), "truncated"],
  ["its weights cut off", () => ggufBytes(METADATA, [A, B]).subarray(0, -60), '"b" ends at byte'],
  ["its header cut off", () => ggufBytes(METADATA, [A, B]).subarray(0, 200), "truncated"],
];

for (const [what, file, says] of LIES) {
  Deno.test(`A GGUF file with ${what} is refused`, () => {
    const error = assertThrows(() => read(file()), CheckpointError, says);
    assertStringIncludes(error.message, "m.gguf");
    assertEquals(error.file, "m.gguf");
  });
}

Deno.test("A GGUF file is refused wherever it is cut", () => {
  const whole = ggufBytes(METADATA, [A, B]);
  const dataEnd = (read(whole).tensors.get("b")?.position ?? 0) + B.bytes.byteLength;
  for (let size = 0; size < dataEnd; size++) {
    assertThrows(() => read(whole.subarray(0, size)), CheckpointError);
  }
  read(whole.subarray(0, dataEnd)); // the padding after the last tensor may be missing
});

Deno.test("A damaged GGUF header loads or is refused, and never takes much memory", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;
  const random = seededRandom(seed);
  const valid = ggufBytes(METADATA, [A, B]);
  const headerSize = read(valid).tensors.get("a")?.position ?? 0;
  let loaded = 0;
  for (let round = 0; round < 4000; round++) {
    const bytes = mutate(valid, headerSize, random);
    const inMemory = new MemorySource("m.gguf", bytes);
    const source: ByteSource = {
      name: inMemory.name,
      sizeBytes: bytes.byteLength,
      readAt(position, target) {
        assert(target.byteLength <= bytes.byteLength, "More is allocated than the file has");
        inMemory.readAt(position, target);
      },
      [Symbol.dispose]() {},
    };
    try {
      for (const tensor of readGgufHeader(source).tensors.values()) {
        assert(tensor.position + tensor.sizeBytes <= bytes.byteLength);
      }
      loaded++;
    } catch (error) {
      assert(error instanceof CheckpointError, `seed ${seed}, round ${round}: ${error}`);
    }
  }
  assert(loaded > 0 && loaded < 4000, `seed ${seed}: ${loaded} of 4000 loaded`);
});

Deno.test("A file that only claims to be large is refused before anything is read of it", () => {
  // A terabyte that is not there: every read would fail, and every window would be too much.
  const claimed: ByteSource = {
    name: "huge.gguf",
    sizeBytes: 2 ** 40,
    readAt(_position, target) {
      assert(target.byteLength <= 1024 * 1024, "More than a window is read");
      target.fill(0xff);
      target.set(concatBytes([new TextEncoder().encode("GGUF"), Uint8Array.of(3, 0, 0, 0)]));
    },
    [Symbol.dispose]() {},
  };
  assertThrows(() => readGgufHeader(claimed), CheckpointError, "claims");
});
