/**
 * The process under test: the model behind the handler, on a port of its own.
 *
 * It answers each line of standard input with a line of JSON on standard output: what it holds
 * after its garbage is collected. It ends in order when standard input ends. Run with
 * `--v8-flags=--expose-gc`.
 */

import { handler } from "../../lib/openai/handler.ts";
import { LLM, type ModelStats } from "../../mod.ts";

/** What the process says when it listens, and each time it is asked. */
export interface ServerReport {
  readonly port: number;
  /** Resident memory that is the process's own. */
  readonly residentBytes: number;
  readonly heapBytes: number;
  readonly engine: ModelStats["engine"];
  /** Rejections that nobody took, and what the handler called an internal error. */
  readonly faults: readonly string[];
}

/** Larger bodies are refused. Small, so that too large ones cost little to send. */
export const BODY_SIZE_LIMIT = 65_536;
/** Longer prompts are refused. */
export const MAX_MODEL_LENGTH = 512;
/** Keys and values of a token of SmolLM2: 30 layers, 3 heads of 64, bfloat16. */
const TOKEN_BYTES = 2 * 30 * 3 * 64 * 2;
/** So few that a full house has to give some up again. */
const KV_TOKENS = 1280;

const faults: string[] = [];

async function serve(path: string): Promise<void> {
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    faults.push(`unhandled rejection: ${describe(event.reason)}`);
  });
  await using llm = await LLM.load(path, {
    maxModelLength: MAX_MODEL_LENGTH,
    kvCacheBytes: KV_TOKENS * TOKEN_BYTES,
  });
  const answer = handler(llm, {
    bodySizeLimit: BODY_SIZE_LIMIT,
    devMode: true,
    onError: (error) => faults.push(`internal error: ${describe(error)}`),
  });
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
  say(report(llm, server.addr.port));
  for await (const lines of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
    for (const _ of lines.matchAll(/\n/g)) {
      await collectGarbage();
      say(report(llm, server.addr.port));
    }
  }
  await server.shutdown();
}

/** Twice, with a pause: what finalizers let go of is collected in the second round. */
async function collectGarbage(): Promise<void> {
  const { gc } = globalThis as { gc?: () => void };
  if (gc === undefined) throw new Error("The server must be run with --v8-flags=--expose-gc");
  for (let round = 0; round < 2; round++) {
    gc();
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function report(llm: LLM, port: number): ServerReport {
  const { rss, heapUsed } = Deno.memoryUsage();
  return {
    port,
    residentBytes: ownBytes() ?? rss,
    heapBytes: heapUsed,
    engine: llm.stats().engine,
    faults: faults.splice(0),
  };
}

/**
 * Resident memory without pages of files: those of the program and the model come and go as the
 * system likes. Only Linux tells them apart.
 */
function ownBytes(): number | undefined {
  if (Deno.build.os !== "linux") return undefined;
  const status = Deno.readTextFileSync("/proc/self/status");
  const kilobytes = (name: string) =>
    Number(new RegExp(`^${name}:\\s*(\\d+) kB$`, "m").exec(status)?.[1]);
  return 1024 * (kilobytes("RssAnon") + kilobytes("RssShmem"));
}

function describe(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error);
}

function say(report: ServerReport): void {
  console.log(JSON.stringify(report));
}

if (import.meta.main) await serve(Deno.args[0] as string);
