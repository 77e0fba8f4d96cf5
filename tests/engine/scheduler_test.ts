import { assert, assertEquals } from "@std/assert";
import type { StepShape } from "../../lib/device/bucket.ts";
import { pack } from "../../lib/engine/batch.ts";
import { KvCache } from "../../lib/engine/kv_cache.ts";
import { Request } from "../../lib/engine/request.ts";
import { type Plan, Scheduler, type StepLimits } from "../../lib/engine/scheduler.ts";
import { SamplingParams } from "../../lib/sampling/params.ts";
import { resolveSamplingParams } from "../../lib/sampling/resolved_params.ts";

const PLENTY = {
  maxBatchSize: 8,
  maxTokensPerStep: 64,
  maxOutputRows: 8,
  maxPromptLength: 1024,
  prefillChunkSize: 64,
  fits: () => true,
};

let arrivals = 0;

function request(
  id: string,
  promptLength: number,
  options: { priority?: number; promptLogprobs?: number; first?: number } = {},
): Request {
  const { first = 1, promptLogprobs } = options;
  const params = promptLogprobs === undefined ? {} : { promptLogprobs };
  return new Request(
    {
      id,
      promptTokenIds: Array.from({ length: promptLength }, (_, index) => first + index),
      params: resolveSamplingParams(new SamplingParams(params)),
      priority: options.priority ?? 0,
    },
    { arrival: arrivals++, arrivedMs: 0, maxTokens: 10_000, endTokenIds: [] },
  );
}

function setUp(blockCount: number, limits: Partial<StepLimits> = {}) {
  const kv = new KvCache(blockCount, { enablePrefixCaching: true });
  const scheduler = new Scheduler(kv, { ...PLENTY, wholePrompts: false, ...limits });
  return { kv, scheduler };
}

/** What a step does, as text: `id:start+count`. Everything is computed and a token 0 appended. */
function run(kv: KvCache, plan: Plan | undefined): string {
  assert(plan !== undefined);
  const text = plan.turns.map(({ request, start, count }) => `${request.id}:${start}+${count}`);
  pack(plan);
  for (const { request, start, count } of plan.turns) {
    assert(request instanceof Request);
    const isLast = start + count === request.tokenIds.length;
    for (let at = request.promptLogprobs.length; request.params.promptLogprobs !== null;) {
      if (at >= start + count || at >= request.promptLength - 1) break;
      at = request.promptLogprobs.push([]);
    }
    request.computedCount = start + count;
    kv.commit(request);
    if (isLast) request.append(0);
  }
  return `${plan.kind} ${text.join(" ")}`;
}

Deno.test("Scheduler runs decodes first and fills the step with chunks of prompts", () => {
  const { kv, scheduler } = setUp(64);
  scheduler.enqueue(request("a", 10));
  assertEquals(run(kv, scheduler.plan()), "prefill a:0+10");
  scheduler.enqueue(request("b", 100, { first: 200 }));
  assertEquals(run(kv, scheduler.plan()), "append a:10+1 b:0+63");
  assertEquals(run(kv, scheduler.plan()), "append a:11+1 b:63+37");
  assertEquals(run(kv, scheduler.plan()), "decode a:12+1 b:100+1");
});

Deno.test("Scheduler admits by priority, then by arrival, and nobody overtakes", () => {
  const { kv, scheduler } = setUp(8, { maxBatchSize: 2 });
  scheduler.enqueue(request("low", 5, { priority: 1, first: 10 }));
  scheduler.enqueue(request("second", 5, { first: 20 }));
  scheduler.enqueue(request("third", 5, { first: 30 }));
  scheduler.enqueue(request("urgent", 5, { priority: -1, first: 40 }));
  assertEquals(run(kv, scheduler.plan()), "prefill urgent:0+5 second:0+5");
});

Deno.test("Scheduler lets a waiting request in when blocks are freed", () => {
  const { kv, scheduler } = setUp(4);
  const first = request("first", 40);
  scheduler.enqueue(first);
  scheduler.enqueue(request("large", 33, { first: 100 }));
  scheduler.enqueue(request("small", 3, { first: 200 }));
  assertEquals(run(kv, scheduler.plan()), "prefill first:0+40");
  assertEquals(run(kv, scheduler.plan()), "decode first:40+1"); // small could run, but is not next
  scheduler.remove(first);
  assertEquals(run(kv, scheduler.plan()), "prefill large:0+33");
});

Deno.test("Scheduler preempts whoever comes last when blocks run out, and takes it up again", () => {
  const { kv, scheduler } = setUp(5);
  const first = request("first", 16 + 14);
  const second = request("second", 16 + 14, { first: 100 });
  scheduler.enqueue(first);
  scheduler.enqueue(second);
  run(kv, scheduler.plan());
  for (let step = 0; step < 2; step++) run(kv, scheduler.plan());
  assertEquals(run(kv, scheduler.plan()), "decode first:32+1"); // takes the fifth block
  assertEquals([second.state, scheduler.counts.preemptionCount], ["waiting", 1]);
  scheduler.remove(first);
  // Its 32 tokens are in the prefix cache still; only the one chosen last is computed again.
  assertEquals(run(kv, scheduler.plan()), "decode second:32+1");
  assertEquals(second.cachedCount, 0);
});

Deno.test("Scheduler keeps a step of decodes from starving prompts, and prompts from starving decodes", () => {
  const { kv, scheduler } = setUp(64, { maxTokensPerStep: 4, prefillChunkSize: 4 });
  for (const id of ["a", "b", "c", "d"]) {
    scheduler.enqueue(request(id, 1, { first: 10 * arrivals }));
  }
  run(kv, scheduler.plan());
  scheduler.enqueue(request("long", 20, { first: 500 }));
  const steps = Array.from({ length: 6 }, () => run(kv, scheduler.plan()));
  const turns = (id: string) => steps.filter((step) => step.includes(`${id}:`)).length;
  assert(turns("long") >= 2, steps.join("\n"));
  for (const id of ["a", "b", "c", "d"]) assert(turns(id) >= 3, steps.join("\n"));
});

Deno.test("Scheduler alternates where a step holds a single token", () => {
  const { kv, scheduler } = setUp(64, { maxTokensPerStep: 1, prefillChunkSize: 1 });
  scheduler.enqueue(request("a", 1));
  run(kv, scheduler.plan());
  scheduler.enqueue(request("b", 3, { first: 50 }));
  const steps = Array.from({ length: 6 }, () => run(kv, scheduler.plan()));
  assertEquals(steps.map((step) => step.split(" ")[1]![0]).join(""), "ababab");
});

Deno.test("Scheduler asks for no more rows of logits than a step returns", () => {
  const { kv, scheduler } = setUp(64, { maxOutputRows: 5 });
  scheduler.enqueue(request("a", 12, { promptLogprobs: 0 }));
  const rows: number[] = [];
  const steps = Array.from({ length: 3 }, () => {
    const plan = scheduler.plan()!;
    rows.push(pack(plan).outputRows.length);
    return run(kv, plan);
  });
  assertEquals(steps, ["prefill a:0+5", "append a:5+5", "append a:10+2"]);
  assertEquals(rows, [5, 5, 2]);
});

Deno.test("Scheduler goes token by token beyond the longest prompt", () => {
  const { kv, scheduler } = setUp(64, { maxPromptLength: 20 });
  const long = request("long", 20);
  for (let token = 0; token < 3; token++) long.tokenIds.push(7); // as after a preemption
  scheduler.enqueue(long);
  const steps = Array.from({ length: 4 }, () => run(kv, scheduler.plan()));
  assertEquals(steps, [
    "prefill long:0+20",
    "decode long:20+1",
    "decode long:21+1",
    "decode long:22+1",
  ]);
});

Deno.test("Scheduler plans only steps that some bucket holds", () => {
  const fits = (step: StepShape) =>
    step.kind === "decode" || (step.inputSize <= 8 && step.batchSize <= 2);
  const { kv, scheduler } = setUp(64, { fits });
  for (let id = 0; id < 4; id++) scheduler.enqueue(request(`r${id}`, 20, { first: 100 * id }));
  let shortest = 0;
  for (let step = 0; step < 40 && shortest < 22; step++) {
    const plan = scheduler.plan()!;
    const counts = plan.turns.map((turn) => turn.count);
    assert(plan.kind === "decode" || (Math.max(...counts) <= 8 && counts.length <= 2));
    run(kv, plan);
    shortest = Math.min(...plan.turns.map((turn) => turn.request.tokenIds.length));
  }
  assert(shortest >= 22, "somebody starves");
});

Deno.test("KvCache reuses shared prefixes but always leaves a token to compute", () => {
  const { kv, scheduler } = setUp(64);
  const first = request("first", 32);
  scheduler.enqueue(first);
  assertEquals(run(kv, scheduler.plan()), "prefill first:0+32");
  scheduler.enqueue(request("same", 32));
  scheduler.enqueue(request("longer", 40));
  scheduler.enqueue(request("scored", 32, { promptLogprobs: 1 }));
  assertEquals(
    run(kv, scheduler.plan()),
    "append first:32+1 same:16+16 longer:32+8 scored:0+5", // eight rows: one, one, one and five
  );
});

Deno.test("Scheduler lets a branch run on the same blocks, and copies the one it writes to", () => {
  const { kv, scheduler } = setUp(64);
  const first = request("first", 20);
  scheduler.enqueue(first);
  run(kv, scheduler.plan());
  const branch = first.branch(1);
  branch.tokenIds.pop(); // the token chosen for the first is not its own
  branch.computedCount = 20;
  scheduler.fork(first, branch);
  assertEquals(kv.blockIds(branch), kv.blockIds(first));
  assertEquals(kv.blockCount - kv.availableCount, 2);
  branch.append(7);
  const plan = scheduler.plan()!;
  const [shared, own] = [kv.blockIds(branch)[1]!, kv.blockIds(first)[1]!];
  // The first that writes takes the copy.
  assertEquals(plan.copies, [{ from: shared, to: own, pool: "global" }]);
  assertEquals(run(kv, plan), "decode first:20+1 first:20+1");
  assertEquals(scheduler.plan()!.copies, []);
  scheduler.remove(first);
  scheduler.remove(branch);
  assertEquals(kv.availableCount, 64);
});

Deno.test("Scheduler lets a branch wait where a step has no place for it, or no block is left", () => {
  for (const [blockCount, maxBatchSize] of [[64, 1], [2, 8]] as const) {
    const { kv, scheduler } = setUp(blockCount, { maxBatchSize });
    const first = request("first", 20);
    scheduler.enqueue(first);
    run(kv, scheduler.plan());
    scheduler.fork(first, first.branch(1));
    assertEquals([scheduler.runningCount, scheduler.waitingCount], [1, 1]);
  }
});

/** Computes a request's tokens, and chooses none: a beam that waits for the others of its search. */
function runBeam(kv: KvCache, scheduler: Scheduler, beam: Request): void {
  scheduler.enqueue(beam);
  const [turn] = scheduler.plan()!.turns;
  beam.computedCount = turn!.start + turn!.count;
  kv.commit(beam);
  assertEquals(beam.pendingCount, 0);
}

Deno.test("Scheduler parks a beam that has had its turn, rather than preempt the one that is waited for", () => {
  const { kv, scheduler } = setUp(3);
  const first = request("first", 16);
  const second = first.branch(1);
  second.tokenIds[0] = 99; // nothing to share
  runBeam(kv, scheduler, first);
  scheduler.enqueue(second);
  while (second.tokenIds.length < 33) run(kv, scheduler.plan());
  assertEquals(run(kv, scheduler.plan()), "decode first:32+1");
  assertEquals([first.state, second.state], ["parked", "running"]);
  assertEquals(scheduler.counts.preemptionCount, 1);
});

Deno.test("Scheduler parks a beam for the others of its search that wait, and for who comes before", () => {
  for (const owner of ["its search", "another request"]) {
    const { kv, scheduler } = setUp(64, { maxBatchSize: 1 });
    const beam = request("beam", 4);
    runBeam(kv, scheduler, beam);
    scheduler.enqueue(request("later", 4, { first: 200 }));
    const waiting = owner === "its search"
      ? beam.branch(1)
      : request("urgent", 4, { first: 100, priority: -1 });
    scheduler.enqueue(waiting);
    assertEquals(run(kv, scheduler.plan()), `prefill ${waiting.id}:0+4`);
    assertEquals([beam.state, waiting.state], ["parked", "running"]);
  }
});

Deno.test("Scheduler goes on with a waiting beam when the only other turn was just preempted", () => {
  const { kv, scheduler } = setUp(5);
  const beam = request("beam", 16);
  runBeam(kv, scheduler, beam);
  const other = request("other", 48, { first: 100 });
  scheduler.enqueue(other);
  while (other.tokenIds.length < 65) run(kv, scheduler.plan());
  const sibling = beam.branch(1);
  sibling.append(7);
  scheduler.enqueue(sibling);
  // The other needs a fifth block and preempts itself, as the beam comes before it.
  assertEquals(run(kv, scheduler.plan()), "decode beam:16+1");
  assertEquals([beam.state, sibling.state, other.state], ["running", "running", "waiting"]);
});
