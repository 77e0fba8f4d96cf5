import { assertEquals } from "@std/assert";
import { endsInRepetition } from "../../lib/sampling/repetition.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const SEED = Math.floor(performance.timeOrigin) % 1_000_000;

Deno.test("An output repeats itself when its end is one pattern as often as asked", () => {
  const limits = { maxPatternSize: 3, minCount: 3 };
  const ends = (text: string, changes = {}) =>
    endsInRepetition([...text].map(Number), text.length, { ...limits, ...changes });
  assertEquals(["111", "2111", "121212", "9123123123", "0"].map((text) => ends(text)), [
    true,
    true,
    true,
    true,
    false,
  ]);
  assertEquals(["11", "1112", "12121", "123412341234"].map((text) => ends(text)), [
    false,
    false,
    false,
    false,
  ]);
  assertEquals(ends("111", { minPatternSize: 2 }), false);
  assertEquals(ends("111111", { minPatternSize: 2 }), true);
  assertEquals(ends("1111", { maxPatternSize: 0 }), false);
  assertEquals(endsInRepetition([1, 1, 1], 2, limits), false, "the prompt does not count");
});

Deno.test("The end is compared as if every pattern were written out", () => {
  const random = seededRandom(SEED);
  for (let round = 0; round < 2000; round++) {
    const tokenIds = Array.from(
      { length: Math.floor(random() * 12) },
      () => random() < 0.5 ? 0 : 1,
    );
    const [maxPatternSize, minCount] = [Math.floor(random() * 5), 2 + Math.floor(random() * 3)];
    const minPatternSize = Math.floor(random() * (maxPatternSize + 1));
    const expected = Array.from({ length: maxPatternSize + 1 }, (_, size) => size).some((size) => {
      if (size < Math.max(1, minPatternSize) || size * minCount > tokenIds.length) return false;
      const pattern = tokenIds.slice(-size);
      const written = Array.from({ length: minCount }, () => pattern).flat();
      return `${tokenIds.slice(-size * minCount)}` === `${written}`;
    });
    assertEquals(
      endsInRepetition(tokenIds, tokenIds.length, { maxPatternSize, minPatternSize, minCount }),
      expected,
      `seed ${SEED}: ${tokenIds} ${maxPatternSize} ${minPatternSize} ${minCount}`,
    );
  }
});
