/** safetensors headers, indexes and folders: what is read, and every lie that is refused. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { type ByteSource, FileSource } from "../../lib/models/formats/byte_source.ts";
import { MemorySource } from "../helpers/memory_source.ts";
import { readSafetensorsHeader } from "../../lib/models/formats/safetensors.ts";
import { openSafetensorsFolder } from "../../lib/models/formats/safetensors_folder.ts";
import { ModelFolder } from "../../lib/models/model_folder.ts";
import { mutate, seededRandom } from "../helpers/mutations.ts";
import { concatBytes, safetensorsBytes, safetensorsFile } from "../helpers/safetensors_writer.ts";

const FLOATS = new Uint8Array(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);

function read(bytes: Uint8Array): ReturnType<typeof readSafetensorsHeader> {
  return readSafetensorsHeader(new MemorySource("m.safetensors", bytes));
}

function readHeader(header: string, dataSize = 24): ReturnType<typeof readSafetensorsHeader> {
  return read(safetensorsFile(header, new Uint8Array(dataSize)));
}

function withLength(length: bigint, rest: Uint8Array): Uint8Array {
  const field = new Uint8Array(8);
  new DataView(field.buffer).setBigUint64(0, length, true);
  return concatBytes([field, rest]);
}

Deno.test("A safetensors header says where each tensor lies, and the bytes are there", () => {
  const file = Deno.makeTempFileSync({ suffix: ".safetensors" });
  try {
    Deno.writeFileSync(
      file,
      safetensorsBytes([
        { name: "a", dtype: "F32", shape: [2, 3], bytes: FLOATS },
        { name: "empty", dtype: "BF16", shape: [0, 8], bytes: new Uint8Array(0) },
        { name: "scalar", dtype: "I64", shape: [], bytes: new Uint8Array(8).fill(7) },
        { name: 'ü"\\\n', dtype: "F4", shape: [4], bytes: Uint8Array.of(1, 2) },
      ]),
    );
    using source = new FileSource(file);
    const tensors = readSafetensorsHeader(source);
    assertEquals([...tensors.keys()], ["a", "empty", "scalar", 'ü"\\\n']);
    const a = tensors.get("a");
    assert(a !== undefined);
    assertEquals([a.dtype, a.shape, a.sizeBytes], ["F32", [2, 3], 24]);
    const bytes = new Uint8Array(24);
    source.readAt(a.position, bytes);
    assertEquals(bytes, FLOATS);
    assertEquals(tensors.get("empty")?.sizeBytes, 0);
  } finally {
    Deno.removeSync(file);
  }
});

const entry = (begin: number, end: number, shape = [(end - begin) / 4]) =>
  JSON.stringify({ dtype: "F32", shape, data_offsets: [begin, end] });

const LIES: readonly [what: string, file: () => Uint8Array, says: string][] = [
  ["an empty file", () => new Uint8Array(0), "0 bytes"],
  ["a file of seven bytes", () => new Uint8Array(7), "7 bytes"],
  ["a header length above the limit", () => withLength(2n ** 63n, FLOATS), "9223372036854775808"],
  ["a header longer than the file", () => withLength(25n, FLOATS), "25 is more than the 24"],
  ["a header of length zero", () => withLength(0n, FLOATS), 'begin with "{"'],
  ["a header that begins with a space", () => safetensorsFile(" {}"), 'begin with "{"'],
  [
    "a header that is not UTF-8",
    () => withLength(4n, Uint8Array.of(0x7b, 0x22, 0xff, 0x7d)),
    "UTF-8",
  ],
  ["a header that is cut", () => safetensorsFile('{"a":{"dtype":"F32"'), "not valid"],
  ["text after the header", () => safetensorsFile("{}{}"), "after the closing brace"],
  [
    "a tensor named twice",
    () => safetensorsFile(`{"a":${entry(0, 24)},"a":${entry(0, 24)}}`, FLOATS),
    '"a" appears twice',
  ],
  [
    "a tensor named twice by an escape",
    () => safetensorsFile(`{"a":${entry(0, 24)},"\\u0061":${entry(0, 24)}}`, FLOATS),
    '"a" appears twice',
  ],
  [
    "a field given twice",
    () =>
      safetensorsFile(
        '{"a":{"dtype":"F32","dtype":"F16","shape":[6],"data_offsets":[0,24]}}',
        FLOATS,
      ),
    '"dtype" appears twice',
  ],
  [
    "an unknown field",
    () => safetensorsFile('{"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24],"x":1}}', FLOATS),
    'unknown field "x"',
  ],
  [
    "an unknown dtype",
    () => safetensorsFile('{"a":{"dtype":"F31","shape":[6],"data_offsets":[0,24]}}', FLOATS),
    '"a" has the dtype "F31"',
  ],
  [
    "a missing dtype",
    () => safetensorsFile('{"a":{"shape":[6],"data_offsets":[0,24]}}', FLOATS),
    '"a" has the dtype none',
  ],
  [
    "a missing shape",
    () => safetensorsFile('{"a":{"dtype":"F32","data_offsets":[0,24]}}', FLOATS),
    '"shape"',
  ],
  [
    "missing offsets",
    () => safetensorsFile('{"a":{"dtype":"F32","shape":[6]}}', FLOATS),
    '"data_offsets"',
  ],
  [
    "a negative size",
    () => safetensorsFile('{"a":{"dtype":"F32","shape":[-6],"data_offsets":[0,24]}}', FLOATS),
    "-6",
  ],
  [
    "a size with a fraction",
    () => safetensorsFile('{"a":{"dtype":"F32","shape":[6.0],"data_offsets":[0,24]}}', FLOATS),
    "6.0",
  ],
  [
    "a size past exact numbers",
    () =>
      safetensorsFile(
        '{"a":{"dtype":"F32","shape":[9007199254740993],"data_offsets":[0,24]}}',
        FLOATS,
      ),
    "9007199254740993",
  ],
  [
    "sizes whose product overflows",
    () =>
      safetensorsFile(
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,24]}}',
        FLOATS,
      ),
    "4294967296",
  ],
  [
    "offsets that run backwards",
    () => safetensorsFile('{"a":{"dtype":"F32","shape":[6],"data_offsets":[24,0]}}', FLOATS),
    "begin ≤ end",
  ],
  [
    "a shape that its bytes contradict",
    () => safetensorsFile(`{"a":${entry(0, 24, [7])}}`, FLOATS),
    '"a": F32 [7] takes 224 bits',
  ],
  [
    "a dtype whose bits fill no byte",
    () =>
      safetensorsFile('{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}}', new Uint8Array(2)),
    "12 bits",
  ],
  [
    "tensors that overlap",
    () => safetensorsFile(`{"a":${entry(0, 16)},"b":${entry(12, 24)}}`, FLOATS),
    '"b" overlaps tensor "a"',
  ],
  [
    "two tensors on the same bytes",
    () => safetensorsFile(`{"a":${entry(0, 24)},"b":${entry(0, 24)}}`, FLOATS),
    "overlaps",
  ],
  [
    "a hole between tensors",
    () => safetensorsFile(`{"a":${entry(0, 8)},"b":${entry(12, 24)}}`, FLOATS),
    '"b" leaves a hole after tensor "a"',
  ],
  [
    "a hole before the first",
    () => safetensorsFile(`{"a":${entry(4, 24)}}`, FLOATS),
    "after the header",
  ],
  ["a tensor past the end", () => safetensorsFile(`{"a":${entry(0, 400)}}`, FLOATS), "truncated"],
  [
    "a truncated file",
    () => safetensorsFile(`{"a":${entry(0, 24)}}`, FLOATS.subarray(0, 20)),
    "truncated",
  ],
  ["trailing bytes", () => safetensorsFile(`{"a":${entry(0, 20)}}`, FLOATS), "trailing bytes"],
  [
    "a name that reaches prototypes",
    () => safetensorsFile(`{"__proto__":${entry(0, 24)}}`, FLOATS),
    "__proto__",
  ],
  ["an empty name", () => safetensorsFile(`{"":${entry(0, 24)}}`, FLOATS), "1 to 1024 characters"],
  [
    "a very long name",
    () => safetensorsFile(`{"${"x".repeat(5000)}":${entry(0, 24)}}`, FLOATS),
    "1024",
  ],
  ["metadata that is no object", () => safetensorsFile('{"__metadata__":[]}'), "__metadata__"],
  ["metadata that is no text", () => safetensorsFile('{"__metadata__":{"a":1}}'), '"a"'],
  ["a truth value", () => safetensorsFile('{"a":true}'), "true"],
  [
    "deep nesting",
    () => safetensorsFile(`{"a":${"[".repeat(10_000)}${"]".repeat(10_000)}}`),
    "deeper",
  ],
  ["a header that is a list", () => safetensorsFile('{"a":[1,2]}'), "described by an object"],
];

for (const [what, file, says] of LIES) {
  Deno.test(`A safetensors file with ${what} is refused`, () => {
    const error = assertThrows(() => read(file()), CheckpointError, says);
    assertStringIncludes(error.message, "m.safetensors");
    assertEquals(error.file, "m.safetensors");
  });
}

Deno.test("A safetensors header padded with spaces is read", () => {
  assertEquals(readHeader(`{"a":${entry(0, 24)}}      \n`).size, 1);
});

Deno.test("A damaged safetensors header loads or is refused, and never takes much memory", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0] as number;
  const random = seededRandom(seed);
  const valid = safetensorsBytes([
    { name: "model.a", dtype: "F32", shape: [2, 3], bytes: FLOATS },
    { name: "model.b", dtype: "BF16", shape: [12], bytes: FLOATS },
  ]);
  const headerSize = valid.byteLength - 2 * FLOATS.byteLength;
  let loaded = 0;
  for (let round = 0; round < 4000; round++) {
    const bytes = mutate(valid, headerSize, random);
    const inMemory = new MemorySource("m.safetensors", bytes);
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
      for (const tensor of readSafetensorsHeader(source).values()) {
        assert(tensor.position + tensor.sizeBytes <= bytes.byteLength);
      }
      loaded++;
    } catch (error) {
      assert(error instanceof CheckpointError, `seed ${seed}, round ${round}: ${error}`);
    }
  }
  assert(loaded > 0 && loaded < 4000, `seed ${seed}: ${loaded} of 4000 loaded`);
});

function inTempFolder(run: (dir: string) => void): void {
  const dir = Deno.makeTempDirSync();
  try {
    run(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

function writeShards(dir: string, weightMap: unknown): void {
  const part = (name: string) => ({ name, dtype: "F32", shape: [6], bytes: FLOATS });
  Deno.writeFileSync(`${dir}/one.safetensors`, safetensorsBytes([part("a"), part("extra")]));
  Deno.writeFileSync(`${dir}/two.safetensors`, safetensorsBytes([part("b")]));
  const index = { metadata: { total_size: 1.5e3 }, weight_map: weightMap };
  Deno.writeTextFileSync(`${dir}/model.safetensors.index.json`, JSON.stringify(index));
}

Deno.test("An index decides which shard holds a tensor, and unmapped tensors are left alone", () => {
  inTempFolder((dir) => {
    writeShards(dir, { a: "one.safetensors", b: "two.safetensors" });
    Deno.writeTextFileSync(`${dir}/model.safetensors`, "not read, as there is an index");
    const folder = openSafetensorsFolder(new ModelFolder(dir));
    assertEquals([...folder.tensors.keys()], ["a", "b"]);
    assertEquals(folder.tensors.get("b")?.source.name, `${dir}/two.safetensors`);
    for (const source of folder.sources) source[Symbol.dispose]();
  });
});

const BAD_INDEXES: readonly [what: string, weightMap: unknown, says: string][] = [
  ["no weight_map", undefined, "weight_map"],
  ["an empty weight_map", {}, "0 files"],
  ["a path that climbs", { a: "../one.safetensors" }, "plain name"],
  ["an absolute path", { a: "/etc/one.safetensors" }, "plain name"],
  ["a drive", { a: "C:one.safetensors" }, "plain name"],
  ["a backslash", { a: "x\\one.safetensors" }, "plain name"],
  ["a zero byte", { a: "one\0.safetensors" }, "plain name"],
  ["another kind of file", { a: "one.bin" }, ".safetensors"],
  ["a shard that is a number", { a: 1 }, "plain name"],
  ["a missing shard", { a: "three.safetensors" }, "three.safetensors"],
  ["a tensor that its shard lacks", { a: "one.safetensors", c: "two.safetensors" }, '"c"'],
  ["a tensor in another shard", { a: "two.safetensors", b: "one.safetensors" }, '"a"'],
];

for (const [what, weightMap, says] of BAD_INDEXES) {
  Deno.test(`An index with ${what} is refused`, () => {
    inTempFolder((dir) => {
      writeShards(dir, weightMap);
      const error = assertThrows(
        () => openSafetensorsFolder(new ModelFolder(dir)),
        CheckpointError,
        says,
      );
      assertStringIncludes(error.message, dir);
    });
  });
}

Deno.test("A tensor in two shards is refused", () => {
  inTempFolder((dir) => {
    writeShards(dir, { a: "one.safetensors", b: "two.safetensors", extra: "two.safetensors" });
    const twice = [{ name: "a", dtype: "F32", shape: [6], bytes: FLOATS }];
    Deno.writeFileSync(`${dir}/two.safetensors`, safetensorsBytes(twice));
    const open = () => openSafetensorsFolder(new ModelFolder(dir));
    const error = assertThrows(open, CheckpointError, '"a"');
    assertStringIncludes(error.message, "one.safetensors");
    assertStringIncludes(error.message, "two.safetensors");
  });
});

Deno.test("A folder without safetensors is refused by the name of what is missing", () => {
  inTempFolder((dir) => {
    Deno.writeTextFileSync(`${dir}/pytorch_model.bin`, "a pickle");
    const open = () => openSafetensorsFolder(new ModelFolder(dir));
    assertThrows(open, CheckpointError, `${dir}/model.safetensors`);
  });
});

Deno.test("A weights file that is a folder is refused", () => {
  inTempFolder((dir) => {
    Deno.mkdirSync(`${dir}/model.safetensors`);
    const open = () => openSafetensorsFolder(new ModelFolder(dir));
    assertThrows(open, CheckpointError, "regular file");
  });
});

Deno.test("A link out of the folder is refused, one to the hub cache's own blobs is followed", () => {
  inTempFolder((root) => {
    const bytes = safetensorsBytes([{ name: "a", dtype: "F32", shape: [6], bytes: FLOATS }]);
    const repository = `${root}/models--org--name`;
    const snapshot = `${repository}/snapshots/0123abcd`;
    Deno.mkdirSync(snapshot, { recursive: true });
    Deno.mkdirSync(`${repository}/blobs`);
    Deno.writeFileSync(`${repository}/blobs/feed`, bytes);
    Deno.writeFileSync(`${root}/outside`, bytes);

    const link = `${snapshot}/model.safetensors`;
    Deno.symlinkSync("../../blobs/feed", link);
    const folder = openSafetensorsFolder(new ModelFolder(snapshot));
    assertEquals([...folder.tensors.keys()], ["a"]);
    for (const source of folder.sources) source[Symbol.dispose]();

    Deno.removeSync(link);
    Deno.symlinkSync("../../../outside", link);
    const open = () => openSafetensorsFolder(new ModelFolder(snapshot));
    assertThrows(open, CheckpointError, "outside the model's folder");
  });
});
