/**
 * Runs the examples on SmolLM2 from the cache, each in a process of its own as a reader would.
 *
 * An example takes the model's path as its argument and ends by itself; `mount.ts` serves until it
 * is stopped and prints its URL, which `client.ts` takes as its argument.
 */

import { join } from "node:path";
import { cachedPath, defaultCacheDir } from "../models/fetch.ts";
import { listFiles, repositoryPath, ROOT } from "./source.ts";

const RUN = ["run", "--allow-net", "--allow-read", "--allow-env", "--allow-sys"];
const TIME_LIMIT_MS = 120_000;

/** Runs one example to its end: it must succeed, and say something. */
async function runToEnd(example: string, argument: string): Promise<string | undefined> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...RUN, example, argument],
    cwd: ROOT,
    stdin: "null",
    signal: AbortSignal.timeout(TIME_LIMIT_MS),
  }).output();
  const [said, complained] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (!success) return `it failed:\n${said}\n${complained}`;
  if (said!.trim() === "") return "it printed nothing";
  return undefined;
}

/** Starts the mounted server, runs the client against it, and stops it. */
async function runServed(
  server: string,
  client: string,
  model: string,
): Promise<string | undefined> {
  await using child = new Deno.Command(Deno.execPath(), {
    args: [...RUN, server, model],
    cwd: ROOT,
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const timeout = AbortSignal.timeout(TIME_LIMIT_MS);
  timeout.addEventListener("abort", () => child.kill());
  let said = "";
  const decoder = new TextDecoder();
  const reader = child.stdout.getReader();
  let url: string | undefined;
  while (url === undefined) {
    const { done, value } = await reader.read();
    if (done) return `${server} ended without printing a URL:\n${said}`;
    said += decoder.decode(value, { stream: true });
    url = /https?:\/\/[^\s"]+(?=\s)/.exec(said)?.[0];
  }
  // The rest is read so that the server never waits for its reader.
  const drained = (async () => {
    while (!(await reader.read()).done);
  })();
  const fault = await runToEnd(client, url.replace("//0.0.0.0", "//127.0.0.1"));
  child.kill();
  await drained;
  return fault;
}

const model = cachedPath(defaultCacheDir());
const examples = listFiles(join(ROOT, "examples"))
  .map(repositoryPath)
  .filter((path) => path.endsWith(".ts"));
const [server, client] = ["examples/mount.ts", "examples/client.ts"];
let failed = examples.length === 0;
for (const example of examples.filter((path) => path !== client)) {
  const fault = example === server
    ? await runServed(server, client, model)
    : await runToEnd(example, model);
  console.log(`${fault === undefined ? "ok    " : "FAILED"} ${example}`);
  if (fault !== undefined) console.log(fault);
  failed ||= fault !== undefined;
}
Deno.exit(failed ? 1 : 0);
