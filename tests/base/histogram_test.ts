/** Histograms: where a value is counted, and edges that grow as 1, 2, 5. */

import { assertEquals, assertThrows } from "@std/assert";
import { Histogram, oneTwoFive } from "../../lib/base/histogram.ts";

Deno.test("A value on an edge belongs to that edge's bucket, one above all edges to the last", () => {
  const histogram = new Histogram([1, 2.5, 10]);
  for (const value of [0, 1, 1.5, 2.5, 10, 11]) histogram.observe(value);
  assertEquals(histogram.snapshot(), {
    edges: [1, 2.5, 10],
    counts: [2, 2, 1, 1],
    count: 6,
    sum: 26,
  });
});

Deno.test("A snapshot stays as it was when more is measured", () => {
  const histogram = new Histogram([1]);
  const before = histogram.snapshot();
  histogram.observe(5);
  assertEquals(before, { edges: [1], counts: [0, 0], count: 0, sum: 0 });
});

Deno.test("Edges must ascend", () => {
  assertThrows(() => new Histogram([1, 1]), Error, "do not ascend");
});

Deno.test("Edges of token counts go as 1, 2, 5 up to the longest context", () => {
  assertEquals(oneTwoFive(1), [1]);
  assertEquals(oneTwoFive(49), [1, 2, 5, 10, 20]);
  assertEquals(oneTwoFive(1000), [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]);
});
