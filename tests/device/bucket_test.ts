import { assert, assertEquals, assertThrows } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { InvariantError } from "../../lib/base/invariant.ts";
import {
  bucketTables,
  chooseBucket,
  defaultBuckets,
  maxContextLength,
  maxPromptLength,
} from "../../lib/device/bucket.ts";

const limits = { maxContextLength: 3000, maxBatchSize: 12, maxTokensPerStep: 512 };

Deno.test("The default tables reach the longest context, the largest batch and a whole step", () => {
  const tables = defaultBuckets(limits);
  assertEquals(maxContextLength(tables), 3000);
  assertEquals(maxPromptLength(tables), 3000);
  assertEquals(tables.tokenwise, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
  assertEquals([...new Set(tables.decode.map((b) => b.batchSize))], [1, 4, 12]);
  assertEquals([...new Set(tables.decode.map((b) => b.attentionSize))], [512, 2048, 3000]);
});

Deno.test("Every step within the limits finds a bucket that holds it", () => {
  for (const maxContext of [1, 40, 256, 3000]) {
    const tables = bucketTables({}, { ...limits, maxContextLength: maxContext });
    for (const kind of ["prefill", "decode", "append"] as const) {
      for (const batchSize of [1, 3, 12]) {
        for (const attentionSize of [1, 17, 256, 2999, 3000].filter((size) => size <= maxContext)) {
          const inputSize = kind === "decode" ? 1 : Math.min(attentionSize, 40);
          const tokenCount = Math.min(512, batchSize * inputSize);
          const step = { kind, batchSize, attentionSize, inputSize, tokenCount };
          const bucket = chooseBucket(tables, step);
          assert(bucket.batchSize >= batchSize, JSON.stringify({ step, bucket }));
          assert(bucket.attentionSize >= attentionSize, JSON.stringify({ step, bucket }));
          assert(bucket.tokenCount >= tokenCount, JSON.stringify({ step, bucket }));
        }
      }
    }
  }
});

Deno.test("The smallest bucket that fits is chosen", () => {
  const step = {
    kind: "decode",
    batchSize: 3,
    attentionSize: 513,
    inputSize: 1,
    tokenCount: 3,
  } as const;
  assertEquals(chooseBucket(bucketTables({}, limits), step), {
    kind: "decode",
    batchSize: 4,
    attentionSize: 2048,
    tokenCount: 4,
  });
});

Deno.test("A decode that no decode bucket holds runs as an append", () => {
  const tables = bucketTables({ decode: [{ batchSize: 1, attentionSize: 64 }] }, limits);
  const step = {
    kind: "decode",
    batchSize: 2,
    attentionSize: 65,
    inputSize: 1,
    tokenCount: 2,
  } as const;
  assertEquals(chooseBucket(tables, step).kind, "append");
});

Deno.test("A step beyond every bucket is our own mistake", () => {
  const step = {
    kind: "append",
    batchSize: 1,
    attentionSize: 3001,
    inputSize: 1,
    tokenCount: 1,
  } as const;
  assertThrows(() => chooseBucket(bucketTables({}, limits), step), InvariantError);
});

Deno.test("User tables limit prompt and context, and are checked", () => {
  const tables = bucketTables({
    prefill: [{ batchSize: 1, attentionSize: 128 }],
    append: [{ batchSize: 1, attentionSize: 256, inputSize: 64 }],
    decode: [{ batchSize: 1, attentionSize: 512 }],
  }, limits);
  assertEquals([maxPromptLength(tables), maxContextLength(tables)], [256, 512]);
  const refuse = (given: Parameters<typeof bucketTables>[0], text: string) =>
    assertThrows(() => bucketTables(given, limits), InvalidParameterError, text);
  refuse({ decode: [] }, "decodeBuckets must name at least one bucket");
  refuse({ decode: [{ batchSize: 0, attentionSize: 64 }] }, "batchSize must be a positive integer");
  refuse(
    { decode: [{ batchSize: 13, attentionSize: 64 }] },
    "batchSize must be at most maxBatchSize, 12",
  );
  refuse(
    { prefill: [{ batchSize: 1, attentionSize: 4000 }] },
    "attentionSize must be at most 3000",
  );
  refuse({ append: [{ batchSize: 1, attentionSize: 64 }] }, "inputSize must be a positive integer");
  refuse({ prefill: [{ batchSize: 1, attentionSize: 64, inputSize: 2 }] }, "only append buckets");
  refuse({ tokenwise: [1, 8] }, "must hold one token for each of 12 sequences");
  refuse({ tokenwise: [0, 64] }, "positive integers");
});
