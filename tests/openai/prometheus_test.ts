/** A real Prometheus server scrapes a loaded model and answers queries; skipped where none is installed. */

import { assert, assertEquals } from "@std/assert";
import { handler } from "../../lib/openai/handler.ts";
import type { LLM } from "../../mod.ts";
import { tinyTest } from "../helpers/tiny_llm.ts";
import { COMPLETIONS, post } from "./requests.ts";

const PATIENCE_MS = 30_000;

if (isInstalled()) {
  tinyTest("Prometheus scrapes a loaded server and answers queries", scrapeAndAsk);
} else {
  Deno.test.ignore("Prometheus is not installed: apt-get install prometheus", () => {});
}

async function scrapeAndAsk(llm: LLM): Promise<void> {
  const answer = handler(llm, { servedModelNames: ['a "name"'], apiKeys: ["key"] });
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  const dir = await Deno.makeTempDir();
  const address = `127.0.0.1:${freePort()}`;
  await Deno.writeTextFile(
    `${dir}/prometheus.yml`,
    "global: {scrape_interval: 200ms}\nscrape_configs:\n  - job_name: test\n" +
      `    static_configs: [{targets: ["127.0.0.1:${server.addr.port}"]}]\n`,
  );
  const prometheus = new Deno.Command("prometheus", {
    args: [
      `--config.file=${dir}/prometheus.yml`,
      `--storage.tsdb.path=${dir}/data`,
      `--web.listen-address=${address}`,
    ],
    stdout: "null",
    stderr: "null",
  }).spawn();
  try {
    const body = { prompt: "abc", max_tokens: 7, temperature: 0, ignore_eos: true };
    const headers = { authorization: "Bearer key" };
    const answered = await answer(post(COMPLETIONS, body, { headers }));
    assertEquals((await answered.json()).usage.completion_tokens, 7);
    const tokens = await query(address, "furiosa_llm_generation_tokens_total == 7");
    assertEquals([tokens.metric["model_name"], tokens.metric["leader_device"]], [
      'a "name"',
      "npu:0:0",
    ]);
    await query(address, "furiosa_llm_num_requests_running == 0");
    const quantile = "histogram_quantile(0.9, vllm:time_to_first_token_seconds_bucket)";
    assert(Number((await query(address, quantile)).value[1]) > 0);
  } finally {
    prometheus.kill();
    await prometheus.status;
    await Deno.remove(dir, { recursive: true });
  }
}

/** One series of a result. */
interface Series {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** The first series of a result, once there is one. */
async function query(address: string, expression: string): Promise<Series> {
  const deadline = Date.now() + PATIENCE_MS;
  while (Date.now() < deadline) {
    const series = await tryQuery(
      `http://${address}/api/v1/query?query=${encodeURIComponent(expression)}`,
    );
    if (series !== undefined) return series;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`Prometheus had no answer to ${expression}`);
}

async function tryQuery(url: string): Promise<Series | undefined> {
  let response: Response;
  try {
    response = await fetch(url);
  } catch (error) {
    if (error instanceof TypeError) return undefined; // it does not listen yet
    throw error;
  }
  if (!response.ok) {
    await response.body?.cancel();
    return undefined; // it listens, and is not ready yet
  }
  return (await response.json()).data.result[0];
}

function freePort(): number {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return listener.addr.port;
}

function isInstalled(): boolean {
  try {
    return new Deno.Command("prometheus", { args: ["--version"] }).outputSync().success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
