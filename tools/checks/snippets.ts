/**
 * Runs every snippet of docs/clients.md against the server that the page says.
 *
 * A snippet must exit with 0 and print what the page says it prints. The Python ones run with the
 * `python` on the path; if that has no client they are skipped, with the reason. The servers listen
 * on port 8000, as the snippets expect; if that is taken, the snippets are pointed to another one.
 */

import { join } from "node:path";
import { defaultCacheDir } from "../models/cache.ts";
import { minilmFolder } from "../models/minilm.ts";
import { startCommand } from "./running_server.ts";
import { isAsExpected, type Language, readPage, type Snippet } from "./snippet_page.ts";
import { ROOT } from "./source.ts";

const PAGE = "docs/clients.md";
const TIME_LIMIT_MS = 60_000;
const COMMANDS: Readonly<Record<Language, readonly [string, ...string[]]>> = {
  sh: ["bash", "-euo", "pipefail", "-s"],
  python: ["python", "-"],
  ts: [
    Deno.execPath(),
    "run",
    "--check",
    "--frozen",
    `--config=${join(ROOT, "tests/clients/deno.json")}`,
    "--allow-net",
    "--allow-env",
    "-",
  ],
};

/** Models that the page names by their id on the hub, which this machine may not reach. */
const IN_CACHE: Readonly<Record<string, string>> = {
  "sentence-transformers/all-MiniLM-L6-v2": minilmFolder(defaultCacheDir()),
};

function withModelFromCache(words: readonly string[]): string[] {
  return words.flatMap((word) => {
    const folder = IN_CACHE[word];
    return folder === undefined ? [word] : [folder, "--served-model-name", word];
  });
}

/** What is wrong with a snippet. */
async function faultOf({ language, program, expected }: Snippet): Promise<string | undefined> {
  const [command, ...args] = COMMANDS[language];
  // Somebody's own settings of the client would lead to another server.
  const env = Object.entries(Deno.env.toObject()).filter(([name]) => !name.startsWith("OPENAI_"));
  await using child = new Deno.Command(command, {
    args,
    clearEnv: true,
    env: { ...Object.fromEntries(env), NO_COLOR: "1" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(TIME_LIMIT_MS),
  }).spawn();
  const output = child.output();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(program));
  await writer.close();
  const { code, stdout, stderr } = await output;
  const [said, complained] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (code !== 0) return `it ended with exit code ${code}:\n${said}\n${complained}`;
  if (isAsExpected(said!, expected)) return undefined;
  return `it printed\n${said}\nand not\n${expected}`;
}

/** So does one that shows JSON with Python's tool. */
function needsPython({ language, program }: Snippet): boolean {
  return language === "python" || /\bpython\b/.test(program);
}

/** Why Python snippets cannot run here. */
async function whyNoPython(): Promise<string | undefined> {
  try {
    const { success } = await new Deno.Command("python", {
      args: ["-c", "import httpx, openai"],
      stdout: "null",
      stderr: "null",
    }).output();
    return success ? undefined : "the package openai is not installed for python";
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return "there is no python on the path";
    throw error;
  }
}

function freePort(): number {
  try {
    using _listener = Deno.listen({ hostname: "127.0.0.1", port: 8000 });
    return 8000;
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    console.log("Port 8000 is taken: the snippets are pointed to another one");
    return 0;
  }
}

const counts = { passed: 0, failed: 0, ignored: 0 };
const noPython = await whyNoPython();
for (const { serve, snippets } of readPage(Deno.readTextFileSync(join(ROOT, PAGE)))) {
  await using server = await startCommand(withModelFromCache(serve), freePort());
  for (const snippet of snippets) {
    const name = `${PAGE}:${snippet.line} (${snippet.language})`;
    if (noPython !== undefined && needsPython(snippet)) {
      counts.ignored++;
      console.log(`${name} ... ignored: ${noPython}`);
      continue;
    }
    const address = server.url.replace("http://127.0.0.1:", "localhost:");
    const program = snippet.program.replaceAll("localhost:8000", address);
    const start = performance.now();
    const fault = await faultOf({ ...snippet, program });
    const seconds = ((performance.now() - start) / 1000).toFixed(1);
    counts[fault === undefined ? "passed" : "failed"]++;
    console.log(`${name} ... ${fault === undefined ? "ok" : "FAILED"} (${seconds} s)`);
    if (fault !== undefined) console.log(`${program}\n${fault}`);
  }
}
const { passed, failed, ignored } = counts;
const word = failed === 0 ? "ok" : "FAILED";
console.log(`\n${word} | ${passed} passed | ${failed} failed | ${ignored} ignored`);
Deno.exit(failed === 0 ? 0 : 1);
