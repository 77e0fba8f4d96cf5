import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { activate, applyDense, applyLayers } from "../../lib/pooling/head.ts";
import { dot, normalized, pool, type PoolingMode, rowsFor } from "../../lib/pooling/pooler.ts";

const ROWS = [[1, -2], [3, 5], [-4, 9]].map((row) => Float32Array.from(row));

Deno.test("Each way to pool gives the vector that its formula gives", () => {
  const root = Math.sqrt(3);
  const expected: [PoolingMode, number[]][] = [
    ["cls", [1, -2]],
    ["lasttoken", [-4, 9]],
    ["max", [3, 9]],
    ["mean", [0, 4]],
    ["mean_sqrt_len", [0, 12 / root]],
    ["weightedmean", [(1 + 6 - 12) / 6, (-2 + 10 + 27) / 6]],
  ];
  for (const [mode, vector] of expected) {
    // Together with another mode all rows are pooled here; alone, the engine may have done it.
    assertEquals(pool([mode, "cls"], ROWS), Float32Array.from([...vector, 1, -2]), mode);
    if (rowsFor([mode]) === "all") assertEquals(pool([mode], ROWS), Float32Array.from(vector));
    else assertEquals(pool([mode], [Float32Array.from(vector)]), Float32Array.from(vector));
  }
});

Deno.test("No more rows are asked for than a way to pool needs", () => {
  assertEquals(rowsFor(["cls"]), "first");
  assertEquals(rowsFor(["lasttoken"]), "last");
  assertEquals(rowsFor(["mean"]), "mean");
  for (const mode of ["max", "mean_sqrt_len", "weightedmean"] as const) {
    assertEquals(rowsFor([mode]), "all");
  }
  assertEquals(rowsFor(["cls", "mean"]), "all");
  assertThrows(() => pool(["cls"], ROWS), Error, "several");
  assertThrows(() => pool(["mean"], []), Error, "without rows");
});

Deno.test("A normalised vector has the length 1, and zeros stay zeros", () => {
  const vector = normalized(Float32Array.of(3, 4));
  assertEquals(vector, Float32Array.of(0.6, 0.8));
  assertAlmostEquals(dot(vector, vector), 1, 1e-6);
  assertEquals(normalized(new Float32Array(3)), new Float32Array(3));
  assertEquals(normalized(Float32Array.of(1e-30, 0)), Float32Array.of(1e-18, 0)); // ÷ 1e-12
});

Deno.test("Dense layers multiply, add their bias and activate, one after the other", () => {
  const first = {
    inputs: 2,
    outputs: 3,
    weight: Float32Array.of(1, 2, 0, -1, 0.5, 0.5),
    bias: Float32Array.of(0, 1, -1),
    activation: "relu" as const,
  };
  assertEquals(applyDense(first, Float32Array.of(2, 3)), Float32Array.of(8, 0, 1.5));
  const second = {
    inputs: 3,
    outputs: 1,
    weight: Float32Array.of(1, 1, -2),
    bias: undefined,
    activation: "identity" as const,
  };
  assertEquals(applyLayers([first, second], Float32Array.of(2, 3)), Float32Array.of(5));
  assertThrows(() => applyDense(second, Float32Array.of(1)), Error, "3 inputs is given 1");
});

Deno.test("Activations have the values of their formulas", () => {
  const x = Float32Array.of(-1, 0, 2);
  const near = (actual: Float32Array, expected: number[]) =>
    actual.forEach((value, i) => assertAlmostEquals(value, expected[i] as number, 1e-6));
  near(activate("identity", x), [-1, 0, 2]);
  near(activate("sigmoid", x), [0.26894142, 0.5, 0.88079708]);
  near(activate("tanh", x), [-0.76159416, 0, 0.96402758]);
  near(activate("relu", x), [0, 0, 2]);
  near(activate("silu", x), [-0.26894142, 0, 1.76159416]);
  near(activate("softmax", x), [0.04201007, 0.1141952, 0.84379473]);
  near(activate("softmax", Float32Array.of(1000, 1000)), [0.5, 0.5]); // no overflow
});
