/** Whole programs against a hub: a model end to end, two at once, one that is killed, and the command. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { blobOf, FakeHub, filesOf } from "../helpers/fake_hub.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import type { Loaded } from "../helpers/load_from_hub.ts";
import { writeTinyModel } from "../helpers/tiny_model.ts";

const PROGRAM = new URL("../helpers/load_from_hub.ts", import.meta.url).pathname;
const SERVE = new URL("../../serve.ts", import.meta.url).pathname;
const NAME = "org/tiny";

/** A hub with a tiny model that can be run, the model's folder, and an empty cache. */
class Setting implements AsyncDisposable {
  readonly #dir: string = Deno.makeTempDirSync();
  readonly folder: string = `${this.#dir}/tiny`;
  readonly cache: string = `${this.#dir}/hub`;
  readonly hub: FakeHub;

  constructor() {
    writeTinyModel(this.folder, goldenModel("llama"), { dtype: "BF16", shards: 2 });
    this.hub = new FakeHub({ [NAME]: { files: filesOf(this.folder) } });
  }

  get snapshot(): string {
    return `${this.cache}/models--org--tiny/snapshots/${this.hub.commit}`;
  }

  /** Starts a program whose environment knows the fake hub alone. */
  start(args: readonly string[], variables: Record<string, string> = {}): Deno.ChildProcess {
    return new Deno.Command(Deno.execPath(), {
      args: ["run", "--no-check", "--no-prompt", ...args],
      env: {
        HF_ENDPOINT: this.hub.endpoint,
        HF_HUB_CACHE: this.cache,
        HF_HOME: `${this.#dir}/none`,
        HF_TOKEN: "",
        HF_HUB_OFFLINE: "",
        NO_COLOR: "1",
        ...variables,
      },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
  }

  async load(model: string, permissions: readonly string[] = ["-A"]): Promise<Loaded> {
    const { success, stdout, stderr } = await this.start([...permissions, PROGRAM, model]).output();
    assert(success, new TextDecoder().decode(stderr));
    return JSON.parse(new TextDecoder().decode(stdout));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hub[Symbol.asyncDispose]();
    Deno.removeSync(this.#dir, { recursive: true });
  }
}

Deno.test("LLM.load downloads a model and runs it, and the next program needs no hub", async () => {
  await using at = new Setting();
  const local = await at.load(at.folder);
  assertEquals(local.tokenIds.length, 8);
  const first = await at.load(NAME);
  assertEquals(first, { ...local, stages: ["download", ...local.stages] });
  at.hub.requests.length = 0;
  assertEquals(await at.load(NAME), local);
  assertEquals(at.hub.requests, []);
});

Deno.test("With permission to write to the cache alone, its snapshot holds plain files", async () => {
  await using at = new Setting();
  const permissions = ["--allow-read", `--allow-write=${at.cache}`, "--allow-net", "--allow-env"];
  const { stages } = await at.load(NAME, permissions);
  assertEquals(stages[0], "download");
  assert([...Deno.readDirSync(at.snapshot)].every(({ isFile }) => isFile));
});

Deno.test("Two programs at once download every file once", async () => {
  await using at = new Setting();
  at.hub.trick = async ({ host }, honest) => {
    // So slowly that both are there.
    if (host === "store") await new Promise((resolve) => setTimeout(resolve, 300));
    return honest();
  };
  const [first, second] = await Promise.all([at.load(NAME), at.load(NAME)]);
  assertEquals(first.tokenIds, second.tokenIds);
  const files = at.hub.paths.filter((path) => path.includes("/resolve/"));
  assertEquals(files.length, new Set(files).size);
  assertEquals(files.length, Object.keys(filesOf(at.folder)).length);
});

Deno.test("A program that is killed leaves no lock, and its part is taken up", async () => {
  await using at = new Setting();
  const { promise: stalled, resolve } = Promise.withResolvers<void>();
  const shard = filesOf(at.folder)["model-00001-of-00002.safetensors"] ?? new Uint8Array();
  at.hub.trick = ({ path, range }, honest) => {
    if (!path.startsWith(`/${blobOf(shard)}`) || range !== null) return undefined;
    resolve();
    return at.hub.stall(honest(), 5000);
  };
  const child = at.start(["-A", PROGRAM, NAME]);
  await stalled;
  const part = `${at.cache}/models--org--tiny/blobs/${blobOf(shard)}.incomplete`;
  while (sizeOf(part) < 5000) await new Promise((pass) => setTimeout(pass, 5));
  child.kill("SIGKILL");
  await child.output();
  await at.load(NAME);
  const ranges = at.hub.requests
    .filter(({ path }) => path.startsWith(`/${blobOf(shard)}`))
    .map(({ range }) => range);
  assertEquals(ranges, [null, "bytes=5000-"]);
});

Deno.test("The command shows the download, then serves the model under its id", async () => {
  await using at = new Setting();
  const args = ["-A", SERVE, NAME, "--port=0", "--host=127.0.0.1", "--threads=0"];
  const child = at.start(args);
  let text = "";
  for await (const piece of child.stderr.pipeThrough(new TextDecoderStream())) {
    text += piece;
    if (text.includes("curl http")) break;
  }
  child.kill("SIGTERM");
  await child.stdout.cancel();
  assertEquals((await child.status).code, 0);
  const total = Object.values(filesOf(at.folder)).reduce((sum, { length }) => sum + length, 0);
  const megabytes = (total / 1e6).toFixed(1);
  assertStringIncludes(
    text,
    `Downloading ${megabytes} of ${megabytes} MB (100 %)\nReading weights`,
  );
  assertStringIncludes(text, `${NAME} is ready`);
});

Deno.test("A dry run gets the headers of weights alone, and leaves the rest for the load", async () => {
  await using at = new Setting();
  const files = Object.entries(filesOf(at.folder));
  const weights = files.filter(([name]) => name.endsWith(".safetensors"));
  assertEquals(weights.length, 2);
  at.hub.trick = ({ path }, honest) => {
    const [, content] = weights.find(([, bytes]) => path === `/${blobOf(bytes)}`) ?? [];
    if (content === undefined) return undefined;
    // Whoever waits for more than the header waits for ever.
    const headerBytes = Number(new DataView(content.buffer).getBigUint64(0, true));
    return at.hub.stall(honest(), 8 + headerBytes);
  };
  const args = ["-A", SERVE, "--dry-run"];
  const run = async (model: string) => {
    const { code, stdout } = await at.start([...args, model]).output();
    assertEquals(code, 0);
    return new TextDecoder().decode(stdout);
  };
  const remote = await run(NAME);
  assertEquals(remote.replace(NAME, ""), (await run(at.folder)).replace(at.folder, ""));
  const cached = [...Deno.readDirSync(at.snapshot)].map(({ name }) => name).sort();
  const small = files.map(([name]) => name).filter((name) => !name.endsWith(".safetensors"));
  assertEquals(cached, small.sort());

  at.hub.trick = undefined;
  const { tokenIds } = await at.load(NAME);
  assertEquals(tokenIds, (await at.load(at.folder)).tokenIds);
  at.hub.requests.length = 0;
  assertEquals(await run(NAME), remote);
  assertEquals(at.hub.requests, []);
});

Deno.test("The command says in one sentence that it is offline, and ends quietly at Ctrl-C", async () => {
  await using at = new Setting();
  const args = ["-A", SERVE, NAME, "--port=0", "--host=127.0.0.1"];
  const offline = await at.start(args, { HF_HUB_OFFLINE: "1" }).output();
  assertEquals(offline.code, 1);
  assertEquals(
    new TextDecoder().decode(offline.stderr),
    `error: Cannot load "${NAME}": HF_HUB_OFFLINE is set, and the hub cache "${at.cache}" ` +
      "does not hold it\n",
  );

  const { promise: stalled, resolve } = Promise.withResolvers<void>();
  at.hub.trick = ({ host }, honest) => {
    if (host === "hub") return undefined;
    resolve();
    return at.hub.stall(honest(), 100);
  };
  const child = at.start(args);
  await stalled;
  child.kill("SIGINT");
  assertEquals((await child.output()).code, 0);
});

function sizeOf(path: string): number {
  try {
    return Deno.statSync(path).size;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return 0;
    throw error;
  }
}
