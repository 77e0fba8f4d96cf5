import { assert, assertEquals } from "@std/assert";
import { offsetSeed, philox, randomSeed, uniform } from "../../lib/sampling/random.ts";

Deno.test("philox gives the published test vectors", () => {
  const hex = (words: readonly number[]) => words.map((word) => word.toString(16).padStart(8, "0"));
  const ones = 0xffffffff;
  assertEquals(hex(philox([0, 0, 0, 0], [0, 0])), ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]);
  assertEquals(hex(philox([ones, ones, ones, ones], [ones, ones])), [
    "408f276d",
    "41c83b0e",
    "a20bc7c6",
    "6d5451fd",
  ]);
  assertEquals(
    hex(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
    ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"],
  );
});

Deno.test("uniform is even over [0, 1), along a stream and across neighbouring seeds", () => {
  const along = Array.from({ length: 20_000 }, (_, index) => uniform(7, index));
  const across = Array.from({ length: 20_000 }, (_, seed) => uniform(seed, 0));
  for (const draws of [along, across]) {
    assert(draws.every((draw) => draw >= 0 && draw < 1));
    const mean = draws.reduce((sum, draw) => sum + draw) / draws.length;
    assert(Math.abs(mean - 0.5) < 0.01, `mean ${mean}`);
    const bins = new Array<number>(64).fill(0);
    for (const draw of draws) bins[Math.floor(draw * 64)]!++;
    const expected = draws.length / 64;
    const chiSquare = bins.reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    assert(chiSquare > 25 && chiSquare < 115, `chi-square ${chiSquare} with 63 degrees of freedom`);
    const lag = draws.slice(1).reduce((sum, draw, i) => sum + (draw - 0.5) * (draws[i]! - 0.5), 0);
    assert(Math.abs(lag / draws.length * 12) < 0.03, "neighbours are correlated");
  }
});

Deno.test("uniform tells every safe seed apart, negative and large ones too", () => {
  const seeds = [0, 1, -1, -2, 2, 2 ** 32, -(2 ** 32), 2 ** 32 + 1, 2 ** 53 - 1, -(2 ** 53 - 1)];
  assertEquals(new Set(seeds.map((seed) => uniform(seed, 3))).size, seeds.length);
  assertEquals(uniform(2 ** 40 + 5, 9), uniform(2 ** 40 + 5, 9));
});

Deno.test("A seed gives the same draws as a number and as a bigint, and every one of 64 bits its own", () => {
  for (const seed of [0, 1, -1, 7, 2 ** 40 + 5, -(2 ** 40) - 5, Number.MAX_SAFE_INTEGER]) {
    assertEquals(uniform(BigInt(seed), 9), uniform(seed, 9));
  }
  const seeds = [2n ** 63n - 1n, 2n ** 63n - 2n, -(2n ** 63n), 2n ** 53n, 2n ** 53n + 1n];
  assertEquals(new Set(seeds.map((seed) => uniform(seed, 0))).size, seeds.length);
});

Deno.test("randomSeed gives safe integers that differ", () => {
  const seeds = Array.from({ length: 50 }, randomSeed);
  assert(seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0));
  assertEquals(new Set(seeds).size, 50);
});

Deno.test("Seeds of several sequences are integers of their own, beyond the largest one as well", () => {
  const safe = Number.MAX_SAFE_INTEGER;
  assertEquals([0, 1, 2].map((index) => offsetSeed(safe - 1, index)), [safe - 1, safe, 2n ** 53n]);
  assertEquals(offsetSeed(-(2n ** 53n), 1), -safe);
  const [max, min] = [2n ** 63n - 1n, -(2n ** 63n)];
  assertEquals([0, 1, 2].map((index) => offsetSeed(max, index)), [max, min, min + 1n]);
  assertEquals([0, 1, 127].map((index) => offsetSeed(-7, index)), [-7, -6, 120]);
});
