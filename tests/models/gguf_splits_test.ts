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
    "tensors, not",
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
