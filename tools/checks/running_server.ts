/** The command `serve` in a process of its own, for programs that check what talks to it. */

import { join } from "node:path";
import { ROOT } from "./source.ts";

const PERMISSIONS = ["net", "read", "write", "env", "sys", "run"].map((name) => `--allow-${name}`);

/** A server that runs until it is disposed of. */
export interface CommandServer extends AsyncDisposable {
  /** Such as `http://127.0.0.1:40001`. */
  readonly url: string;
}

/**
 * Starts `deno task serve` with these words on this machine, by default on a free port.
 *
 * @throws {Error} with what the command said, if it ends before it is ready.
 */
export async function startCommand(words: readonly string[], port = 0): Promise<CommandServer> {
  const own = ["--host", "127.0.0.1", "--port", String(port), "--shutdown-timeout", "0"];
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", ...PERMISSIONS, join(ROOT, "tools/serve.ts"), ...words, ...own],
    cwd: ROOT, // whose deno.json holds the import map
    stdin: "null",
    stdout: "inherit",
    stderr: "piped",
    env: { NO_COLOR: "1" },
  }).spawn();
  const reader = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  let url: string | undefined;
  while (url === undefined) {
    const { done, value } = await reader.read();
    if (done) {
      await child.status;
      throw new Error(`Cannot serve ${words.join(" ")}: the command ended\n${said}`);
    }
    said += value;
    url = /is ready at (http:\S+)/.exec(said)?.[1];
  }
  // The rest is read so that the server never waits for its reader.
  const drained = (async () => {
    while (!(await reader.read()).done);
  })();
  return {
    url,
    async [Symbol.asyncDispose]() {
      child.kill("SIGTERM");
      await drained;
      await child.status;
    },
  };
}
