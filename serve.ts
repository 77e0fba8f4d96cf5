/**
 * The command: loads a model and serves it over HTTP with the OpenAI API.
 *
 * ```sh
 * deno run -A jsr:@rngd/llm/serve MODEL --port 8000
 * ```
 *
 * @module
 */

import { handler, type ServedModel, VERSION } from "./lib/openai/handler.ts";
import { LLM, type LLMOptions } from "./mod.ts";
import { banner } from "./serve/banner.ts";
import { drain, listenProblem, watchSignals } from "./serve/lifecycle.ts";
import type { ServeSettings } from "./serve/settings.ts";
import { explain, IMPOSSIBLE, prepare } from "./serve/start.ts";
import { logStatistics } from "./serve/statistics.ts";
import { showLoading, Terminal } from "./serve/terminal.ts";
import { denoTracer } from "./serve/tracing.ts";
import { isRestarted, restartUnsafeFast, UNSAFE_NOTICE } from "./serve/unsafe_fast.ts";

/** Loads what is served. A test gives one that needs no weights. */
export type Load = (model: string, options: LLMOptions) => Promise<ServedModel & AsyncDisposable>;

/**
 * Runs the command until a signal ends it.
 *
 * @param args the words after the command's name
 * @param load how MODEL becomes a model; by default {@linkcode LLM.load}
 * @returns the exit code: 0 after a quiet end, 1 if serving is not possible, 2 for a wrong flag
 */
export async function main(
  args: readonly string[],
  load: Load = (model, options) => LLM.load(model, options),
): Promise<number> {
  const terminal = Terminal.stderr();
  const job = await prepare(args, VERSION, terminal);
  if (typeof job === "number") return job;
  if (job.settings.unsafeFast) {
    if (!isRestarted()) return await restartUnsafeFast(args);
    terminal.say(UNSAFE_NOTICE);
  }
  const stop = new AbortController();
  using _signals = watchSignals(() => stop.abort(), () => Deno.exit(0));
  try {
    const tracer = denoTracer(VERSION);
    const loading = {
      onProgress: showLoading(terminal),
      signal: stop.signal,
      ...(tracer === undefined ? {} : { tracer }),
    };
    await using llm = await load(job.model, { ...job.settings.llm, ...loading });
    return await serve(llm, job.settings, terminal, stop.signal);
  } catch (error) {
    return stop.signal.aborted ? 0 : explain(error, terminal);
  }
}

async function serve(
  llm: ServedModel & AsyncDisposable,
  settings: ServeSettings,
  terminal: Terminal,
  stop: AbortSignal,
): Promise<number> {
  const { hostname, port, requests } = settings;
  let server: Deno.HttpServer<Deno.NetAddr>;
  try {
    const answer = handler(llm, { ...requests, onError: (error) => terminal.report(error) });
    server = Deno.serve({ hostname, port, onListen() {} }, answer);
  } catch (error) {
    terminal.fail(listenProblem(error, hostname, port));
    return IMPOSSIBLE;
  }
  const facts = {
    info: llm.info,
    name: requests.servedModelNames?.[0] ?? llm.info.id,
    version: VERSION,
    address: { hostname, port: server.addr.port },
    needsKey: requests.apiKeys.some((key) => key !== ""),
  };
  terminal.say(banner(facts, (text) => terminal.bold(text)));
  using _statistics = settings.logsStatistics ? logStatistics(llm, terminal) : undefined;

  if (!stop.aborted) await new Promise((resolve) => stop.addEventListener("abort", resolve));
  terminal.say("Stopping: open requests may finish; Ctrl-C again ends at once");
  await drain(
    server,
    settings.shutdownTimeoutSeconds,
    async () => await llm[Symbol.asyncDispose](),
  );
  return 0;
}

if (import.meta.main) Deno.exit(await main(Deno.args));
