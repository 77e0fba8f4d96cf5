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
import { inspectModel, LLM, type LLMOptions } from "./mod.ts";
import { type Address, banner } from "./serve/banner.ts";
import { drain, openRequestCount, watchSignals } from "./serve/lifecycle.ts";
import { listenFailure, removeSocket } from "./serve/listening.ts";
import { planText } from "./serve/plan_text.ts";
import { rehearse } from "./serve/rehearsal.ts";
import { type Connection, RequestLog } from "./serve/request_log.ts";
import type { Listening, ServeSettings } from "./serve/settings.ts";
import { explain, IMPOSSIBLE, inFlags, type Job, prepare } from "./serve/start.ts";
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
 * @returns the exit code: 0 after a quiet end, 1 if serving is not possible or, at a dry run, if
 *   the model does not fit, 2 for a wrong flag
 */
export async function main(
  args: readonly string[],
  load: Load = (model, options) => LLM.load(model, options),
): Promise<number> {
  const terminal = Terminal.stderr();
  const job = await prepare(args, VERSION, terminal);
  if (typeof job === "number") return job;
  if (job.settings.dryRun) return await dryRun(job, terminal);
  if (job.settings.unsafeFast) {
    if (!isRestarted()) return await restartUnsafeFast(args);
    terminal.say(UNSAFE_NOTICE);
  }
  const { idleFlags } = job.settings;
  if (idleFlags.length > 0) terminal.warn(`no effect here: ${idleFlags.join(", ")}`);
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
    return stop.signal.aborted ? 0 : explain(error, terminal, job.model);
  }
}

/** Shows what the model would take, on standard output. */
async function dryRun({ model, settings }: Job, terminal: Terminal): Promise<number> {
  try {
    const onProgress = showLoading(terminal); // of a download
    const plan = await inspectModel(model, { ...settings.llm, onProgress });
    const problem = plan.problem === null ? null : inFlags(plan.problem);
    console.log(planText({ ...plan, problem }));
    return plan.fits ? 0 : IMPOSSIBLE;
  } catch (error) {
    return explain(error, terminal);
  }
}

async function serve(
  llm: ServedModel & AsyncDisposable,
  settings: ServeSettings,
  terminal: Terminal,
  stop: AbortSignal,
): Promise<number> {
  const { listening, logs, requests } = settings;
  const log = new RequestLog(logs, { terminal, print: (line) => console.log(line) });
  const { onRequest } = log;
  const answer = handler(llm, {
    ...requests,
    onError: (error) => terminal.report(error),
    ...(onRequest === undefined ? {} : { onRequest }),
  });
  await rehearse(llm, terminal);
  let server: Deno.HttpServer;
  try {
    server = listen(listening, log.around(answer));
  } catch (error) {
    terminal.fail(listenFailure(error, listening));
    return IMPOSSIBLE;
  }
  const facts = {
    info: llm.info,
    name: requests.servedModelNames?.[0] ?? llm.info.id,
    version: VERSION,
    address: addressOf(listening, server),
    needsKey: requests.apiKeys.length > 0,
  };
  terminal.say(banner(facts, (text) => terminal.bold(text)));
  using _statistics = logs.statistics ? logStatistics(llm, terminal) : undefined;

  if (!stop.aborted) await new Promise((resolve) => stop.addEventListener("abort", resolve));
  terminal.say(
    settings.shutdownTimeoutSeconds > 0
      ? "Stopping: open requests may finish; Ctrl-C again ends at once"
      : "Stopping: open requests are ended",
  );
  try {
    let count = 0;
    const cut = async () => {
      count = await openRequestCount(answer, requests);
      await llm[Symbol.asyncDispose]();
    };
    const isQuiet = await drain(server, settings.shutdownTimeoutSeconds, cut);
    if (!isQuiet && count > 0) {
      terminal.say(count === 1 ? "1 open request was ended" : `${count} open requests were ended`);
    }
  } finally {
    if (listening.kind === "socket") await removeSocket(listening.path);
  }
  return 0;
}

function listen(
  listening: Listening,
  answer: (request: Request, connection: Connection) => Promise<Response>,
): Deno.HttpServer {
  const hooks = { onListen() {}, onError: onCut };
  if (listening.kind === "socket") return Deno.serve({ path: listening.path, ...hooks }, answer);
  const { hostname, port, tls } = listening;
  return tls === undefined
    ? Deno.serve({ hostname, port, ...hooks }, answer)
    : Deno.serve({ hostname, port, ...tls, ...hooks }, answer);
}

/**
 * The handler never throws, so what comes here is a whole answer that broke off in its middle. The
 * handler has told of that; Deno would print it once more, and nothing but an open end can be sent.
 */
function onCut(): Response {
  return new Response(null, { status: 500 });
}

function addressOf(listening: Listening, server: Deno.HttpServer): Address {
  if (listening.kind === "socket") return { path: listening.path };
  const { hostname, tls } = listening;
  const { port } = server.addr as Deno.NetAddr; // another one than was asked for, if that was 0
  return { hostname, port, isSecure: tls !== undefined };
}

if (import.meta.main) Deno.exit(await main(Deno.args));
