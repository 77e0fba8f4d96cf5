import { assertEquals } from "@std/assert";
import { share } from "../../bench/kernels/job.ts";
import { type Sample, summarize } from "../../bench/kernels/quiet.ts";

const quiet = (ms: number): Sample => ({ ms, slowness: 1.02 });
const noisy = (ms: number, slowness = 1.5): Sample => ({ ms, slowness });

Deno.test("Only quiet samples count where there are enough of them", () => {
  const samples = [
    ...[1, 2, 3, 4, 5].map(quiet),
    ...[90, 91, 92, 93, 94, 95, 96].map((ms) => noisy(ms)),
  ];
  assertEquals(summarize(samples), { ms: 3, quietCount: 5, count: 12 });
});

Deno.test("Without enough quiet samples the least disturbed quarter counts", () => {
  const samples = Array.from({ length: 40 }, (_, i) => noisy(i, 3 - i / 40));
  assertEquals(summarize(samples), { ms: 35, quietCount: 0, count: 40 });
});

Deno.test("Shares cover all panels, each once, and those who do not work have none", () => {
  for (const count of [1, 7, 72, 384]) {
    for (const workers of [1, 2, 3]) {
      const shares = Array.from({ length: workers }, (_, index) => share(count, index, workers));
      assertEquals(shares[0]![0], 0);
      assertEquals(shares.at(-1)![1], count);
      shares.slice(1).forEach(([start], i) => assertEquals(start, shares[i]![1]));
    }
    assertEquals(share(count, 2, 2), [0, 0]);
  }
});
