/** `--dry-run`: what is shown, what is left alone, and the exit codes. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { inspectModel } from "../../mod.ts";
import { planText } from "../../serve/plan_text.ts";
import { Terminal } from "../../serve/terminal.ts";
import { withModel } from "../../tools/serve.ts";
import { goldenEncoder, goldenModel } from "../helpers/golden_models.ts";
import { type TinyModel, writeTinyModel } from "../helpers/tiny_model.ts";
import { Running } from "./running.ts";

async function withTiny(golden: TinyModel, run: (dir: string) => Promise<void>): Promise<void> {
  const dir = Deno.makeTempDirSync();
  try {
    writeTinyModel(dir, golden);
    await run(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

Deno.test("A dry run shows the plan on standard output, and listens nowhere", () =>
  withTiny(goldenModel("llama"), async (dir) => {
    using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = taken.addr as Deno.NetAddr;
    const flags = ["--host=127.0.0.1", `--port=${port}`, "--unsafe-fast", "--max-batch-size=3"];
    await using running = new Running(["--dry-run", dir, ...flags]);
    assertEquals(await running.code(), 0);
    assertEquals(running.text, "");
    assertMatch(running.output, /^Architecture {2}LlamaForCausalLM, to generate$/m);
    assertMatch(running.output, /^ {2}prefill +1 3 × /m);
    assertStringIncludes(running.output, "at most 3 in a step");
    assert(running.output.endsWith("It fits.\n"));
  }));

Deno.test("A dry run of what does not fit ends with 1, and speaks of flags", () =>
  withTiny(goldenModel("llama"), async (dir) => {
    await using running = new Running([dir, "--dry-run", "--kv-cache-bytes=100GiB"]);
    assertEquals(await running.code(), 1);
    assertMatch(running.output, /^It does not fit: [\d.]+ GiB are missing\.$/m);
    assertStringIncludes(running.output, "of keys and values (--kv-cache-bytes)");
  }));

Deno.test("A dry run that cannot be made is one line and an exit code", () =>
  withTiny({ ...goldenModel("llama"), name: "tiny" }, async (dir) => {
    await using wrong = new Running([dir, "--dry-run", "--max-model-len=1000000"]);
    assertEquals(await wrong.code(), 2);
    assertMatch(wrong.text, /^error: Cannot use --max-model-len 1000000: .*\n$/);
    await using missing = new Running([`${dir}/no`, "--dry-run"]);
    assertEquals(await missing.code(), 1);
    assertMatch(missing.text, /^error: Cannot find model ".*": there is no such file or folder\n$/);
    const config = JSON.parse(Deno.readTextFileSync(`${dir}/config.json`));
    const other = { ...config, architectures: ["FancyForCausalLM"] };
    Deno.writeTextFileSync(`${dir}/config.json`, JSON.stringify(other));
    await using unknown = new Running([dir, "--dry-run"]);
    assertEquals(await unknown.code(), 1);
    assertMatch(unknown.text, /^error: .*the supported architectures are .*\n$/);
    assertEquals([wrong.output, missing.output, unknown.output], ["", "", ""]);
  }));

Deno.test("Columns of the plan are aligned, whatever the model has", async () => {
  const names = ["qwen3-yarn", "exaone4-hybrid", "mistral", "gemma3"] as const;
  for (const golden of [...names.map(goldenModel), goldenEncoder()]) {
    await withTiny(golden, async (dir) => {
      const plan = await inspectModel(dir, { kvCacheBytes: 3_000_000 });
      const lines = planText(plan).split("\n");
      const table = lines.slice(
        lines.findIndex((line) => line.startsWith("Weights")),
        lines.findIndex((line) => /^ {2}all /.test(line)) + 1,
      );
      assertEquals(table.length, plan.parts.length + 2);
      const end = (text: string | undefined, pattern: RegExp) =>
        text?.match(pattern)?.[0]?.length ?? -1;
      const stored = /^.*?(?:stored|computed|[\d.]+ (?:bytes|[KMG]iB))/;
      assertEquals(new Set(table.map((line) => end(line, stored))).size, 1, table.join("\n"));
      assert(lines.every((line) => line === line.trimEnd()));
      const windowed = plan.kvPools.some(({ pool }) => pool === "window");
      assertEquals(lines.some((line) => line.startsWith("Windows")), windowed);
    });
  }
});

Deno.test("A dry run without a model is one of the default model", async () => {
  const terminal = new Terminal({ write: () => {}, isTerminal: false, color: false });
  const fetch = () => Promise.resolve("/cache/model.gguf");
  assertEquals(await withModel(["--dry-run"], terminal, { cacheDir: "/cache", fetch }), [
    "/cache/model.gguf",
    "--dry-run",
    "--served-model-name=SmolLM2-135M-Instruct",
  ]);
});
