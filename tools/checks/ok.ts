/**
 * `deno task ok`: everything that must hold before a change is handed in, besides the tests.
 *
 * All steps run, also after one has failed, and two at a time, as a type check keeps one core busy;
 * what a step prints is shown only if it fails.
 */

import { join } from "node:path";
import { readSources, ROOT } from "./source.ts";

/** Places with an import map and a lock of their own: they are checked when they are run. */
const OWN_CONFIG = ["tests/clients/", "tests/oracles/", "bench/peers/", "examples/hono.ts"];
const CHECKED = ["mod.ts", "serve.ts", "lib", "serve", "tests", "tools", "bench", "examples"];

interface Step {
  readonly name: string;
  readonly args: readonly string[];
}

function listSteps(): Step[] {
  const config: { exports: Record<string, string> } = JSON.parse(
    Deno.readTextFileSync(join(ROOT, "deno.json")),
  );
  const exported = Object.values(config.exports);
  const checked = readSources(CHECKED)
    .map(({ path }) => path)
    .filter((path) => !OWN_CONFIG.some((place) => path.startsWith(place)));
  const permissions = ["--allow-read", "--allow-write", "--allow-env", "--allow-sys"];
  return [
    { name: "format", args: ["fmt", "--check"] },
    { name: "lint", args: ["lint"] },
    {
      name: "no console in the library",
      args: ["lint", "--rules-tags=", "--rules-include=no-console", "mod.ts", "lib"],
    },
    { name: "types", args: ["check", ...checked] },
    { name: "documentation of the exports", args: ["doc", "--lint", ...exported] },
    {
      name: "examples in the README and the pages",
      args: ["check", "--doc-only", "README.md", "docs/sampling.md", "docs/mounting.md"],
    },
    {
      name: "examples in the documentation",
      args: ["test", "--doc", "--permit-no-files", ...permissions, "mod.ts", "serve.ts", "lib"],
    },
    {
      name: "floors, order, lock, map and compatibility",
      args: [
        "test",
        ...permissions,
        "tests/floors_test.ts",
        "tests/tidy_test.ts",
        "tests/lock_test.ts",
        "tests/architecture_test.ts",
        "tests/compatibility_test.ts",
      ],
    },
  ];
}

async function run({ name, args }: Step): Promise<boolean> {
  const start = performance.now();
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  }).output();
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${success ? "ok    " : "FAILED"} ${name} (${seconds} s)`);
  const text = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes)).join("\n");
  if (success) {
    // The counts of a test run are wanted by whoever adds them up.
    const counts = /^.*\| \d+ passed.*$/m.exec(text);
    if (counts !== null) console.log(`       ${counts[0]}`);
  } else {
    console.log(`       deno ${args.slice(0, 8).join(" ")}${args.length > 8 ? " …" : ""}\n${text}`);
  }
  return success;
}

let failedCount = 0;
const steps = listSteps().values();
const runSteps = async () => {
  for (const step of steps) if (!await run(step)) failedCount++;
};
await Promise.all([runSteps(), runSteps()]);
if (failedCount > 0) {
  console.log(`${failedCount} of the checks failed`);
  Deno.exit(1);
}
