/** The Dockerfile without Docker: what it copies, started as it says, with the permissions it gives. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "node:path";
import { copyFile, cp } from "node:fs/promises";
import { FakeHub, filesOf } from "../helpers/fake_hub.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";
import { ROOT } from "../../tools/checks/source.ts";

const dockerfile = read("Dockerfile").replaceAll(/\\\n/g, " ");

function read(path: string): string {
  return Deno.readTextFileSync(join(ROOT, path));
}

/** What follows an instruction's name, wherever it stands. */
function instructions(name: string): string[] {
  return [...dockerfile.matchAll(new RegExp(`^\\s*${name}\\s+(.*)$`, "gm"))].map(([, rest]) =>
    rest!
  );
}

/** The sources that are copied from the repository. */
function copied(): string[] {
  return instructions("COPY").filter((rest) => !rest.startsWith("--from"))
    .flatMap((rest) => rest.split(/\s+/).slice(0, -1));
}

/** The words of an instruction in JSON. */
function words(text: string): string[] {
  return JSON.parse(text.slice(text.indexOf("[")));
}

Deno.test("The image's Deno is the one that CI runs, and its user is not root", () => {
  const [, version] = /deno@([\d.]+)/.exec(read(".ci/run"))!;
  assertEquals(instructions("FROM"), [
    `denoland/deno:${version} AS build`,
    `denoland/deno:distroless-${version}`,
  ]);
  assertEquals(instructions("USER"), ["65532:65532"]);
});

Deno.test("The build context holds what is copied, and nothing else", () => {
  const allowed = read(".dockerignore").split("\n").filter((line) => line.startsWith("!"));
  assertEquals(allowed.map((line) => line.slice(1)).toSorted(), copied().toSorted());
  assertStringIncludes(read(".dockerignore"), "\n*\n");
});

Deno.test("Every variable that the command reads may be read in the image", () => {
  const [, allowed] = /--allow-env=([\w,]+)/.exec(instructions("ENTRYPOINT")[0]!)!;
  const files = [...Deno.readDirSync(join(ROOT, "serve"))].map(({ name }) => `serve/${name}`);
  const named = /\bget\("([A-Z][A-Z_]+)"\)/g;
  const variables = files.flatMap((file) =>
    [...read(file).matchAll(named)].map(([, name]) => name!)
  );
  assert(variables.includes("VLLM_API_KEY") && variables.includes("OTEL_DENO"), variables.join());
  assertEquals([...new Set(variables)].filter((name) => !allowed!.split(",").includes(name)), []);
});

Deno.test("What is copied serves a hub model with the image's permissions, is well, and ends well", async () => {
  const dir = await Deno.makeTempDir();
  try {
    for (const source of copied()) await copyInto(join(dir, "app"), source);
    writeTinyModel(join(dir, "tiny"), goldenModel("llama"));
    await using hub = new FakeHub({ "org/tiny": { files: filesOf(join(dir, "tiny")) } });
    const [entry] = instructions("ENTRYPOINT").map(words);
    assert(!/--allow-(?:run|ffi|all)|-A/.test(entry!.join(" ")), entry!.join(" "));
    const command = [...entry!, "serve", "org/tiny", "--port", "0"];
    const child = start(dir, command, { HF_ENDPOINT: hub.endpoint });
    const { port, rest } = await readPort(child.stderr);
    const [check] = instructions("HEALTHCHECK").map(words);
    const healthCode = async () => {
      const health = start(dir, check!, { HEALTH_PORT: port });
      await health.stderr.cancel();
      return (await health.status).code;
    };
    assertEquals(await healthCode(), 0);
    assert(Deno.statSync(join(dir, "models/hub/models--org--tiny")).isDirectory);
    child.kill("SIGTERM");
    await rest;
    assertEquals((await child.status).code, 0);
    assertEquals(await healthCode(), 1);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
});

async function copyInto(app: string, source: string): Promise<void> {
  const [from, to] = [join(ROOT, source), join(app, source)];
  await Deno.mkdir(dirname(to), { recursive: true });
  if (Deno.statSync(from).isDirectory) await cp(from, to, { recursive: true });
  else await copyFile(from, to);
}

/** Runs a command of the image with the image's folders below `dir`. */
function start(dir: string, command: readonly string[], env: Record<string, string>) {
  const [deno, ...args] = command;
  assertEquals(deno, "deno");
  return new Deno.Command(Deno.execPath(), {
    args: args.map((word) => word.replace(/(?<=^|=)\/(?=app|models)/, `${dir}/`)),
    cwd: join(dir, "app"),
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    env: { HF_HOME: join(dir, "models"), HF_HUB_CACHE: "", HF_TOKEN: "", NO_COLOR: "1", ...env },
  }).spawn();
}

/** The port that a server says it listens on; what it says afterwards is read to its end. */
async function readPort(stderr: ReadableStream<Uint8Array<ArrayBuffer>>) {
  const reader = stderr.pipeThrough(new TextDecoderStream()).getReader();
  let said = "";
  while (!/ is ready at .*:\d+\n/.test(said)) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`The server ended without saying where it listens:\n${said}`);
    said += value;
  }
  const rest = (async () => {
    while (!(await reader.read()).done);
  })();
  return { port: / is ready at .*:(\d+)\n/.exec(said)![1]!, rest };
}
