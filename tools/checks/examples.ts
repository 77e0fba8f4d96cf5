/**
 * Runs the examples on SmolLM2 and all-MiniLM-L6-v2 from the cache, each in a process of its own as a reader would.
 *
 * Every example must be known here, end well and say something. `mount.ts` serves until it is
 * interrupted; `client.ts` talks to it meanwhile. The programs in the README, in the page on sampling
 * and in the documentation of the exports run too, in the folder of the models, which they expect
 * beside them.
 */

import { dirname, join } from "node:path";
import { defaultCacheDir } from "../models/cache.ts";
import { smolLM2Path } from "../models/fetch.ts";
import { minilmFolder } from "../models/minilm.ts";
import { listFiles, repositoryPath, ROOT } from "./source.ts";

const RUN = ["run", "--allow-net", "--allow-read", "--allow-env", "--allow-sys"];
const TIME_LIMIT_MS = 120_000;

/** Runs one example to its end: it must succeed, and say something. */
async function runToEnd(
  example: string,
  exampleArguments: readonly string[],
): Promise<string | undefined> {
  const command = new Deno.Command(Deno.execPath(), {
    args: [...RUN, example, ...exampleArguments],
    cwd: ROOT,
    stdin: "null",
    signal: AbortSignal.timeout(TIME_LIMIT_MS),
  });
  return await faultOf(command.output());
}

/** What is wrong with how a program ended, and with what it said. */
async function faultOf(output: Promise<Deno.CommandOutput>): Promise<string | undefined> {
  const { success, stdout, stderr } = await output;
  const [said, complained] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (!success) return `it failed:\n${said}\n${complained}`;
  if (said!.trim() === "") return "it printed nothing";
  return undefined;
}

/** The programs of a page: its TypeScript blocks, but for a server, which would never end. */
function programsOf(page: string): string[] {
  const text = Deno.readTextFileSync(join(ROOT, page));
  return [...text.matchAll(/^```ts\n(.*?)^```$/gms)]
    .map(([, program]) => program!)
    .filter((program) => !program.includes("Deno.serve("));
}

/**
 * The programs in a file's comments that need a model, as one: types are checked once. `deno test
 * --doc`, which runs the others, is told to leave them out; what needs the network is not run here
 * either.
 */
function programOfComments(file: string): string | undefined {
  const text = Deno.readTextFileSync(join(ROOT, file));
  const imported = new Set<string>();
  const blocks = [...text.matchAll(/^ *\* ```ts ignore\n(.*?)^ *\* ```$/gms)]
    .map(([, program]) => program!.replaceAll(/^ *\* ?/gm, ""))
    .filter((program) => !/Deno\.serve\(|LLM\.load\("\w/.test(program))
    .map((program) =>
      program.replace(/^import \{(.*?)\} from "@rngd\/llm";\n/s, (_, names: string) => {
        for (const name of names.split(",")) imported.add(name.trim());
        return "";
      })
    );
  if (blocks.length === 0) return undefined;
  const head = `import { ${[...imported].join(", ")} } from "@rngd/llm";\n`;
  return head + blocks.map((block) => `{\n${block}}\n`).join("");
}

/**
 * Runs programs one after another: each must succeed, and say something. `deno task ok` checks the
 * types of those in pages.
 */
async function runPrograms(
  programs: readonly string[],
  flags: readonly string[] = [],
): Promise<string | undefined> {
  for (const program of programs) {
    await using child = new Deno.Command(Deno.execPath(), {
      args: [...RUN, ...flags, "--config", join(ROOT, "deno.json"), "-"],
      cwd: dirname(model),
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
      signal: AbortSignal.timeout(TIME_LIMIT_MS),
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(program));
    await writer.close();
    const fault = await faultOf(child.output());
    if (fault !== undefined) return `${program}\n${fault}`;
  }
  return undefined;
}

/** Starts the mounted server on a free port, runs the client against it, and interrupts it. */
async function runServed(model: string): Promise<string | undefined> {
  await using child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, "examples/mount.ts", model, "0"],
    cwd: ROOT,
    stdin: "null",
    stdout: "inherit",
    stderr: "piped", // where Deno says where it listens
  }).spawn();
  const timer = setTimeout(() => child.kill(), TIME_LIMIT_MS);
  let said = "";
  const decoder = new TextDecoder();
  const reader = child.stderr.getReader();
  let port: string | undefined;
  while (port === undefined) {
    const { done, value } = await reader.read();
    if (done) return `it ended without saying where it listens:\n${said}`;
    said += decoder.decode(value, { stream: true });
    port = /http:\/\/\S+?:(\d+)\//.exec(said)?.[1];
  }
  // The rest is read so that the server never waits for its reader.
  const drained = (async () => {
    while (!(await reader.read()).done);
  })();
  const fault = await runToEnd("examples/client.ts", [`http://127.0.0.1:${port}/ai`]);
  child.kill("SIGINT");
  await drained;
  const { success } = await child.status;
  clearTimeout(timer);
  return fault ?? (success ? undefined : "it did not end well after an interrupt");
}

/** Examples with a test of their own: `tests/clients/hono_test.ts`. */
const TESTED = ["examples/hono.ts"];

const model = smolLM2Path(defaultCacheDir());
const encoder = minilmFolder(defaultCacheDir());
const known: Record<string, () => Promise<string | undefined>> = {
  "examples/chat.ts": () => runToEnd("examples/chat.ts", [model, "Why is the sky blue?"]),
  "examples/stream.ts": () => runToEnd("examples/stream.ts", [model]),
  "examples/samples.ts": () => runToEnd("examples/samples.ts", [model]),
  "examples/scripted.ts": () => runToEnd("examples/scripted.ts", [model]),
  "examples/engine.ts": () => runToEnd("examples/engine.ts", [model]),
  "examples/embed.ts": () => runToEnd("examples/embed.ts", [encoder]),
  "examples/rerank.ts": () => runToEnd("examples/rerank.ts", [encoder]),
  "examples/mount.ts with examples/client.ts": () => runServed(model),
};
for (const page of ["README.md", "docs/sampling.md"]) {
  known[page] = () => runPrograms(programsOf(page));
}
for (const file of ["mod.ts", ...listFiles(join(ROOT, "lib")).map(repositoryPath)]) {
  const program = file.endsWith(".ts") ? programOfComments(file) : undefined;
  if (program !== undefined) {
    known[`comments of ${file}`] = () => runPrograms([program], ["--check"]);
  }
}

const counts = { passed: 0, failed: 0 };
const report = (name: string, fault: string | undefined) => {
  console.log(`${fault === undefined ? "ok    " : "FAILED"} ${name}`);
  if (fault !== undefined) console.log(fault);
  counts[fault === undefined ? "passed" : "failed"]++;
};
for (const [name, run] of Object.entries(known)) report(name, await run());
for (const path of listFiles(join(ROOT, "examples")).map(repositoryPath)) {
  const isKnown = [...Object.keys(known), ...TESTED].some((name) => name.includes(path));
  if (path.endsWith(".ts") && !isKnown) report(path, "tools/checks/examples.ts does not know it");
}
const { passed, failed } = counts;
console.log(`\n${failed === 0 ? "ok" : "FAILED"} | ${passed} passed | ${failed} failed`);
Deno.exit(failed === 0 ? 0 : 1);
