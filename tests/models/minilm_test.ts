/** all-MiniLM-L6-v2, a real encoder, against its reference. */

import { assert, assertEquals } from "@std/assert";
import { withModel } from "../helpers/loaded_model.ts";
import { minilmTest } from "../helpers/minilm.ts";
import { minilmGolden } from "../helpers/minilm_golden.ts";

const golden = minilmGolden();

function assertStarts(row: ArrayLike<number>, expected: readonly number[], what: string): void {
  for (const [i, number] of expected.entries()) {
    const actual = row[i] ?? NaN;
    assert(Math.abs(actual - number) <= 1e-4, `${what}, number ${i}: ${actual}, not ${number}`);
  }
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, x, i) => sum + x * b[i]!, 0);

minilmTest("MiniLM gives the reference's sentence vectors and similarities", async (path) => {
  await withModel(path, {}, async ({ engine, model, tokenizer }) => {
    assertEquals([model.hiddenSize, model.maxPromptLength, model.tokenTypeCount], [384, 512, 2]);
    const units = await Promise.all(golden.sentences.map(async ({ text, ids, ...expected }, i) => {
      assertEquals([...tokenizer.encode(text, { addSpecialTokens: true })], ids, text);
      const ask = (rows: "mean" | "first") =>
        engine.submitPooling({ id: `${rows}${i}`, promptTokenIds: ids, rows });
      const [{ rows: [mean] }, { rows: [first] }] = await Promise.all([ask("mean"), ask("first")]);
      assertStarts(mean!, expected.mean8, `mean of "${text}"`);
      assertStarts(first!, expected.cls8, `first of "${text}"`);
      const exact = Float64Array.from(mean!);
      const unit = exact.map((x) => x / Math.sqrt(dot(exact, exact)));
      assertStarts(unit, expected.unit8, `unit of "${text}"`);
      return unit;
    }));
    units.forEach((unit, i) =>
      assertStarts(units.map((other) => dot(unit, other)), golden.similarity[i]!, `row ${i}`)
    );
    assertEquals(model.device.kernelFallbacks, []);
  });
});

minilmTest(
  "MiniLM gives a text the same bits alone, in a crowd and on any number of threads",
  async (path) => {
    const longest = Array.from({ length: 512 }, (_, i) => 1000 + (37 * i) % 20_000);
    const prompts = [
      ...golden.sentences.map(({ ids }) => [...ids]),
      longest,
      longest.slice(0, 100),
    ];
    const ask = (threads: number, inCrowd: boolean) =>
      withModel(path, { threads }, async ({ engine }) => {
        const rows: Float32Array[] = [];
        const one = async (promptTokenIds: number[], i: number) => {
          const kind = (["mean", "last", "first"] as const)[i % 3]!;
          rows[i] = (await engine.submitPooling({ id: `${i}`, promptTokenIds, rows: kind }))
            .rows[0]!;
        };
        if (inCrowd) await Promise.all(prompts.map(one));
        else for (const [i, prompt] of prompts.entries()) await one(prompt, i);
        return rows;
      });
    const alone = await ask(1, false);
    assertEquals(await ask(1, true), alone, "in a crowd");
    assertEquals(await ask(3, true), alone, "in a crowd, on three threads");
    assertEquals(await ask(0, false), alone, "inline");
  },
);

minilmTest("MiniLM in eight bits stays close to its reference", async (path) => {
  // Of eight numbers only, so the bounds are looser than for whole vectors.
  const bounds = [[{ dtype: "q8" }, 0.999], [
    { dtype: "q8", activationDtype: "int8" },
    0.97,
  ]] as const;
  for (const [options, bound] of bounds) {
    await withModel(path, options, async ({ engine }) => {
      for (const [i, { text, ids, mean8 }] of golden.sentences.entries()) {
        const { rows: [mean] } = await engine.submitPooling({
          id: `${i}`,
          promptTokenIds: ids,
          rows: "mean",
        });
        const [got, right] = [Float64Array.from(mean!.slice(0, 8)), Float64Array.from(mean8)];
        const cosine = dot(got, right) / Math.sqrt(dot(got, got) * dot(right, right));
        assert(cosine > bound, `"${text}" with ${JSON.stringify(options)}: ${cosine}`);
      }
    });
  }
});
