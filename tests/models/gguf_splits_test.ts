/** GGUF files in parts: one model, whichever way it is cut, and parts that do not belong together. */

import { assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { CheckpointError } from "../../lib/base/errors.ts";
import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { ggufBytes, type GgufEntry, type GgufPart } from "../helpers/gguf_writer.ts";
import { goldenModel, goldenPrompt } from "../helpers/golden_models.ts";
import { modelLogits } from "../helpers/model_logits.ts";
import { tinyGgufBytes } from "../helpers/tiny_model.ts";

/** One part: its metadata and tensors. */
interface Part {
  metadata: Map<string, GgufEntry>;
  tensors: GgufPart[];
}

const GOLDEN = goldenModel("llama");

/** The file whole and in three parts, the first of which has no tensors. */
function parts(): { whole: Uint8Array; parts: Part[] } {
  const file: Part = { metadata: new Map(), tensors: [] };
  const whole = tinyGgufBytes(GOLDEN, ({ metadata, tensors }) => {
    file.metadata = new Map(metadata);
    file.tensors = [...tensors];
  });
  const middle = Math.floor(file.tensors.length / 2);
  const cut = [[], file.tensors.slice(0, middle), file.tensors.slice(middle)];
  const split = cut.map((tensors, index): Part => ({
    metadata: new Map<string, GgufEntry>([
      ...(index === 0 ? file.metadata : []),
      ["split.no", { type: "u32", value: index }],
      ["split.count", { type: "u32", value: cut.length }],
      ["split.tensors.count", { type: "i32", value: file.tensors.length }],
    ]),
    tensors,
  }));
  return { whole, parts: split };
}

const nameOf = (index: number) => `m-0000${index + 1}-of-00003.gguf`;

async function withParts(
  change: (parts: Part[]) => void,
  run: (dir: string) => Promise<void>,
): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    const split = parts();
    change(split.parts);
    for (const [index, { metadata, tensors }] of split.parts.entries()) {
      Deno.writeFileSync(`${dir}/${nameOf(index)}`, ggufBytes([...metadata], tensors));
    }
    Deno.writeFileSync(`${dir}/whole.gguf`, split.whole);
    await run(dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

Deno.test("A GGUF model in three parts has the logits of the whole file", async () => {
  await withParts(() => {}, async (dir) => {
    const ids = goldenPrompt(GOLDEN);
    const expected = await modelLogits(`${dir}/whole.gguf`, ids);
    assertEquals(await modelLogits(`${dir}/${nameOf(0)}`, ids), expected);
  });
});

Deno.test("Parts of a GGUF model may repeat what the first says, under an alignment of their own", async () => {
  await withParts(([first, second, third]) => {
    for (const [key, value] of first!.metadata) {
      if (key.startsWith("split.")) continue;
      second!.metadata.set(key, value);
      third!.metadata.set(key, value);
    }
    third!.metadata.set("general.alignment", { type: "u32", value: 32 });
  }, async (dir) => {
    using whole = await openCheckpoint(`${dir}/whole.gguf`);
    using split = await openCheckpoint(`${dir}/${nameOf(0)}`);
    assertEquals(split.config, whole.config);
  });
});

const REFUSED: readonly (readonly [string, number, (parts: Part[]) => void, string])[] = [
  ["a part other than the first is opened", 1, () => {}, "it is part 2 of 3: open the first part"],
  [
    "a part says that it is another",
    0,
    ([, , third]) => third!.metadata.set("split.no", { type: "u32", value: 1 }),
    "split.no is 1 and split.count 3: by its name they must be 2 and 3",
  ],
  ["a part is missing", 0, (all) => void all.pop(), "there is no such file"],
  [
    "two parts have a tensor",
    0,
    ([, second, third]) => void third!.tensors.push(second!.tensors[0]!),
    "is in",
  ],
  [
    "a tensor is lost",
    0,
    ([, second]) => void second!.tensors.pop(),
    "split.tensors.count is",
  ],
  [
    "the parts count the tensors of another",
    0,
    ([, , third]) => third!.metadata.set("split.tensors.count", { type: "i32", value: 5 }),
    'm-00003-of-00003.gguf": split.tensors.count is 5, but in',
  ],
  [
    "a part repeats another name",
    0,
    ([, second]) => second!.metadata.set("general.name", { type: "string", value: "tiny two" }),
    'general.name is tiny two, but in "',
  ],
  [
    "a part repeats another architecture",
    0,
    ([, , third]) =>
      third!.metadata.set("general.architecture", { type: "string", value: "qwen2" }),
    "general.architecture is qwen2, but in",
  ],
  [
    "a part repeats another shape",
    0,
    ([, second]) => second!.metadata.set("llama.block_count", { type: "u32", value: 99 }),
    "llama.block_count is 99, but in",
  ],
  [
    "a part repeats another vocabulary",
    0,
    ([, second]) =>
      second!.metadata.set("tokenizer.ggml.tokens", { type: "strings", value: ["a", "b"] }),
    "tokenizer.ggml.tokens is a list of 2, but in",
  ],
  [
    "a part has a name that the first has not",
    0,
    ([, second]) => second!.metadata.set("general.basename", { type: "string", value: "other" }),
    "general.basename is other, but in",
  ],
  [
    "the first says that it is the only one",
    0,
    ([first]) => first!.metadata.set("split.count", { type: "u32", value: 1 }),
    "split.tensors.count is",
  ],
  [
    "the first says nothing of parts",
    0,
    ([first]) => {
      for (const key of ["split.no", "split.count", "split.tensors.count"]) {
        first!.metadata.delete(key);
      }
    },
    "by its name it is part 1 of 3, but split.count is missing",
  ],
  [
    "the only part is not the first",
    0,
    ([first]) => {
      first!.metadata.set("split.count", { type: "u32", value: 1 });
      first!.metadata.set("split.no", { type: "u32", value: 2 });
    },
    "split.no is 2",
  ],
  [
    "there are absurdly many",
    0,
    ([first]) => first!.metadata.set("split.count", { type: "u32", value: 4_000_000_000 }),
    "it must be at most 1000",
  ],
];

for (const [what, opened, change, says] of REFUSED) {
  Deno.test(`A split GGUF model is refused where ${what}`, async () => {
    await withParts(change, async (dir) => {
      const open = () => openCheckpoint(`${dir}/${nameOf(opened)}`);
      assertStringIncludes((await assertRejects(open, CheckpointError)).message, says);
    });
  });
}
