/** Downloads from a hub that is honest, then from one that cuts, stalls and lies. */

import {
  assert,
  assertEquals,
  assertMatch,
  assertRejects,
  assertStringIncludes,
} from "@std/assert";
import { CheckpointError, DownloadError, ModelNotFoundError } from "../../lib/base/errors.ts";
import { resolveModel, type ResolveOptions } from "../../lib/models/hub.ts";
import { blobOf, FakeHub, type FakeRepository, largeContent } from "../helpers/fake_hub.ts";
import { goldenModel } from "../helpers/golden_models.ts";
import { tinyConfig } from "../helpers/tiny_model.ts";

const CONFIG = JSON.stringify(tinyConfig(goldenModel("llama")));
const WEIGHTS = largeContent(1);
const FILES = {
  "config.json": CONFIG,
  "tokenizer.json": "{}",
  "model.safetensors": WEIGHTS,
} as const;
const NAME = "org/model";
const BLOB = blobOf(WEIGHTS);
const HALF = WEIGHTS.byteLength / 2;

/** A hub with one repository, and an empty cache. */
class Setting implements AsyncDisposable {
  readonly hub: FakeHub;
  readonly cache: string = Deno.makeTempDirSync();
  readonly variables: Record<string, string>;
  readonly progress: [done: number, total: number][] = [];

  constructor(repository: Partial<FakeRepository> = {}, name = NAME) {
    this.hub = new FakeHub({ [name]: { files: FILES, ...repository } });
    this.variables = { HF_HUB_CACHE: this.cache, HF_ENDPOINT: this.hub.endpoint };
  }

  get folder(): string {
    return `${this.cache}/models--org--model`;
  }

  get snapshot(): string {
    return `${this.folder}/snapshots/${this.hub.commit}`;
  }

  get incomplete(): string {
    return `${this.folder}/blobs/${BLOB}.incomplete`;
  }

  resolve(name = NAME, options: ResolveOptions = {}): Promise<string> {
    return resolveModel(name, {
      environment: (variable) => this.variables[variable],
      onProgress: (done, total) => this.progress.push([done, total]),
      times: { stallMs: 20_000, backoffMs: 1, lockPollMs: 1 },
      ...options,
    });
  }

  /** What a download that must fail says. */
  async refusal(name = NAME, options: ResolveOptions = {}): Promise<string> {
    const error = await assertRejects(() => this.resolve(name, options), DownloadError);
    assertEquals(error.model, "org/model");
    return error.message;
  }

  /** Requests for the content of the weights. */
  get weightRequests(): (string | null)[] {
    return this.hub.requests.filter(({ host }) => host === "store").map(({ range }) => range);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hub[Symbol.asyncDispose]();
    Deno.removeSync(this.cache, { recursive: true });
  }
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("A model is downloaded into the layout that huggingface_hub knows", async () => {
  await using at = new Setting({
    files: {
      ...FILES,
      "generation_config.json": "{}",
      "chat_template.jinja": "{{ messages }}",
      "1_Pooling/config.json": '{"pooling":1}',
      "README.md": "hello",
      "pytorch_model.bin": largeContent(2),
      "onnx/model.onnx": largeContent(3),
      "original/params.json": "{}",
      "adapter_model.safetensors": largeContent(4),
    },
  });
  assertEquals(await at.resolve(), at.snapshot);
  assertEquals(names(at.snapshot), [
    "1_Pooling",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
  ]);
  assertEquals(Deno.readTextFileSync(`${at.folder}/refs/main`), at.hub.commit);
  assertEquals(Deno.readLinkSync(`${at.snapshot}/model.safetensors`), `../../blobs/${BLOB}`);
  const pooling = Deno.readLinkSync(`${at.snapshot}/1_Pooling/config.json`);
  assertEquals(pooling, `../../../blobs/${blobOf('{"pooling":1}')}`);
  assertEquals(Deno.readTextFileSync(`${at.snapshot}/1_Pooling/config.json`), '{"pooling":1}');
  assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), WEIGHTS);
  // Two files have the same content, and share a blob.
  assertEquals(names(`${at.folder}/blobs`).length, 5);
  assertEquals(names(`${at.cache}/.locks/models--org--model`).length, 5);
});

Deno.test("What is in the cache is not asked for again, not even whether it has changed", async () => {
  await using at = new Setting();
  await at.resolve();
  at.hub.requests.length = 0;
  at.progress.length = 0;
  assertEquals(await at.resolve(), at.snapshot);
  assertEquals([at.hub.requests, at.progress], [[], []]);
});

Deno.test("Only what is missing is downloaded", async () => {
  await using at = new Setting();
  await at.resolve();
  at.hub.requests.length = 0;
  Deno.removeSync(`${at.snapshot}/tokenizer.json`);
  Deno.removeSync(`${at.folder}/blobs/${blobOf("{}")}`);
  await at.resolve();
  assertEquals(at.hub.paths.slice(1), [`/${NAME}/resolve/${at.hub.commit}/tokenizer.json`]);
  // A blob that is there is linked again.
  at.hub.requests.length = 0;
  Deno.removeSync(`${at.snapshot}/model.safetensors`);
  await at.resolve();
  assertEquals(at.hub.requests.length, 1);
});

Deno.test("Progress grows to the sum of all sizes, and never goes back", async () => {
  await using at = new Setting();
  let cuts = 3;
  at.hub.trick = ({ host }, honest) =>
    host === "store" && cuts-- > 0 ? at.hub.cut(honest(), 1000) : undefined;
  await at.resolve();
  const total = Object.values(FILES).reduce((sum, content) => sum + content.length, 0);
  assert(at.progress.length > 3);
  assert(at.progress.every(([, each]) => each === total));
  const done = at.progress.map(([each]) => each);
  assertEquals(done, done.toSorted((a, b) => a - b));
  assertEquals(done.at(-1), total);
});

Deno.test("A sharded model is what its index names", async () => {
  const index = (names: unknown[]) =>
    JSON.stringify({ weight_map: Object.fromEntries(names.map((name, i) => [`t${i}`, name])) });
  const shards = { "m-1.safetensors": largeContent(5), "m-2.safetensors": largeContent(6) };
  const rest = { "config.json": CONFIG, "tokenizer.json": "{}", ...shards };
  const file = "model.safetensors.index.json";
  await using at = new Setting({
    files: { ...rest, "consolidated.safetensors": WEIGHTS, [file]: index(Object.keys(shards)) },
  });
  await at.resolve();
  const expected = ["config.json", ...Object.keys(shards), file, "tokenizer.json"];
  assertEquals(names(at.snapshot), expected);

  for (const wrong of [[], ["../m-1.safetensors"], ["m-3.safetensors"], [7]]) {
    await using other = new Setting({ files: { ...rest, [file]: index(wrong) } });
    await assertRejects(
      () => other.resolve(),
      CheckpointError,
      wrong.length === 0 ? "no files" : file,
    );
  }
});

Deno.test("A repository of GGUF files gives its only one, or the one that is named", async () => {
  const one = { "README.md": "", "mmproj-m.gguf": largeContent(1), "m.Q4_0.gguf": largeContent(7) };
  await using single = new Setting({ files: one });
  assertEquals(await single.resolve(), `${single.snapshot}/m.Q4_0.gguf`);
  assertEquals(names(single.snapshot), ["m.Q4_0.gguf"]);

  const files = { ...one, "m.Q8_0.gguf": largeContent(8), "big/m.F16.gguf": largeContent(9) };
  await using several = new Setting({ files });
  const error = await assertRejects(() => several.resolve(), CheckpointError);
  assertStringIncludes(error.message, "it holds 3 GGUF files");
  assertStringIncludes(error.message, `as "${NAME}/big/m.F16.gguf"`);
  assertStringIncludes(error.message, "big/m.F16.gguf, m.Q4_0.gguf, m.Q8_0.gguf");
  const { snapshot } = several;
  assertEquals(await several.resolve(`${NAME}:q8_0`), `${snapshot}/m.Q8_0.gguf`);
  assertEquals(await several.resolve(`${NAME}/big/m.F16.gguf`), `${snapshot}/big/m.F16.gguf`);
  several.hub.requests.length = 0;
  assertEquals(await several.resolve(`${NAME}/big/m.F16.gguf`), `${snapshot}/big/m.F16.gguf`);
  assertEquals(several.hub.requests, []);
  for (const name of [`${NAME}:Q5_K`, `${NAME}/none.gguf`]) {
    await assertRejects(() => several.resolve(name), CheckpointError, "m.Q4_0.gguf, m.Q8_0.gguf");
  }

  await using parts = new Setting({ files: { "m-00001-of-00002.gguf": largeContent(1) } });
  await assertRejects(() => parts.resolve(), CheckpointError, "no weights");
});

Deno.test("A revision is a branch, a tag or a commit, and gets a ref unless it is a commit", async () => {
  await using at = new Setting({ tags: ["v1", "refs/pr/3"] });
  assertEquals(await at.resolve(NAME, { revision: "v1" }), at.snapshot);
  assertEquals(await at.resolve(NAME, { revision: "refs/pr/3" }), at.snapshot);
  assertEquals(names(`${at.folder}/refs`), ["refs", "v1"]);
  assertEquals(at.hub.paths[0], `/api/models/${NAME}/revision/v1?blobs=true`);
  assert(at.hub.paths.includes(`/api/models/${NAME}/revision/refs%2Fpr%2F3?blobs=true`));

  await using other = new Setting();
  assertEquals(await other.resolve(NAME, { revision: other.hub.commit }), other.snapshot);
  assertEquals(names(other.folder), ["blobs", "snapshots"]);
  const absent = () => other.resolve(NAME, { revision: "v9" });
  await assertRejects(absent, ModelNotFoundError, 'revision "v9" of "org/model"');
});

Deno.test("furiosa-ai: the tag of the release, then main, unless a revision is named", async () => {
  const name = "furiosa-ai/Llama-3.1-8B-Instruct";
  const asked = ({ hub }: Setting) =>
    hub.paths.filter((path) => path.startsWith("/api")).map((path) => path.split("/").at(-1));
  await using tagged = new Setting({ tags: ["v2026.1"], hasNoMain: true }, name);
  await tagged.resolve(name);
  assertEquals(asked(tagged), ["v2026.1?blobs=true"]);

  await using untagged = new Setting({}, name);
  await untagged.resolve(name);
  assertEquals(asked(untagged), ["v2026.1?blobs=true", "main?blobs=true"]);

  await using chosen = new Setting({}, name);
  const absent = () => chosen.resolve(name, { revision: "v2026.1" });
  await assertRejects(absent, ModelNotFoundError, "v2026.1");
});

Deno.test("Without weights that can be loaded, nothing is downloaded and the upstream is named", async () => {
  const artifact = {
    "config.json": CONFIG,
    "artifact.json": "{}",
    "params-0.safetensors": WEIGHTS,
    "binary_bundle.zip": largeContent(2),
  };
  const cases: [name: string, cardData: unknown, files: FakeRepository["files"], says: string[]][] =
    [
      ["furiosa-ai/Llama-3.1-8B-Instruct-FP8", undefined, artifact, [
        "compiled artifact",
        'load its upstream "meta-llama/Llama-3.1-8B-Instruct" instead',
      ]],
      ["furiosa-ai/Qwen3-32B-FP8", undefined, artifact, ['"Qwen/Qwen3-32B-FP8"']],
      ["furiosa-ai/EXAONE-4.0-32B-FP8", undefined, artifact, ['"LGAI-EXAONE/EXAONE-4.0-32B-FP8"']],
      ["furiosa-ai/other", { base_model: ["up/stream"] }, artifact, ['"up/stream"']],
      ["org/model", { base_model: "up/stream" }, { "pytorch_model.bin": WEIGHTS }, [
        "only pytorch_model.bin",
        '"up/stream"',
      ]],
      ["org/model", { base_model: "not a name" }, { "README.md": "" }, [
        "no weights",
        "name a repo",
      ]],
    ];
  for (const [name, cardData, files, says] of cases) {
    await using at = new Setting({ files, cardData }, name);
    const error = await assertRejects(() => at.resolve(name), CheckpointError);
    for (const text of [name, ...says]) assertStringIncludes(error.message, text);
    assertEquals(names(at.cache), []);
  }
});

Deno.test("A repository without a tokenizer, or of no known kind, costs no weights", async () => {
  const { "tokenizer.json": _, ...withoutTokenizer } = FILES;
  await using first = new Setting({ files: withoutTokenizer });
  await assertRejects(() => first.resolve(), CheckpointError, 'it has no "tokenizer.json"');
  const config = '{"architectures":["NovelForCausalLM"],"model_type":"novel"}';
  await using second = new Setting({ files: { ...FILES, "config.json": config } });
  await assertRejects(() => second.resolve(), CheckpointError, "NovelForCausalLM");
  assertEquals([first.weightRequests, second.weightRequests], [[], []]);
});

Deno.test("An older repository's vocabulary is downloaded, and templates that have names", async () => {
  const { "tokenizer.json": _, ...older } = FILES;
  const template = "additional_chat_templates/tool_use.jinja";
  const wanted = { "vocab.json": "{}", "merges.txt": "a b", [template]: "tools" };
  await using at = new Setting({ files: { ...older, ...wanted, "vocab.bin": "x" } });
  const folder = await at.resolve();
  for (const [name, text] of Object.entries(wanted)) {
    assertEquals(Deno.readTextFileSync(`${folder}/${name}`), text);
  }
  await assertRejects(() => Deno.stat(`${folder}/vocab.bin`), Deno.errors.NotFound);
});

Deno.test("The token goes to the hub, and to no other host", async () => {
  await using at = new Setting({ token: "hf_secret" });
  at.variables["HF_TOKEN"] = "hf_secret";
  await at.resolve();
  const tokens = Map.groupBy(at.hub.requests, ({ host }) => host);
  assert(tokens.get("hub")?.every(({ token }) => token === "Bearer hf_secret"));
  assertEquals(tokens.get("store")?.map(({ token }) => token), [null]);
});

Deno.test("What may not be read is told with what to do about it", async () => {
  await using secret = new Setting({ token: "hf_secret" });
  await assertRejects(() => secret.resolve(), ModelNotFoundError, "if it is private, set HF_TOKEN");
  secret.variables["HF_TOKEN"] = "hf_other";
  await assertRejects(() => secret.resolve(), ModelNotFoundError, "a token that may read it");
  await assertRejects(() => secret.resolve("org/none"), ModelNotFoundError, '"org/none"');

  await using gated = new Setting({ token: "hf_secret", isGated: true });
  const message = await gated.refusal();
  assertStringIncludes(message, '"org/model" at revision "main": it is gated; accept its terms');
  gated.variables["HF_TOKEN"] = "hf_other";
  assertStringIncludes(await gated.refusal(), "the account that did");
  gated.variables["HF_TOKEN"] = "hf_secret";
  assertEquals(await gated.resolve(), gated.snapshot);

  for (const status of [401, 403, 451]) {
    await using at = new Setting();
    at.variables["HF_TOKEN"] = "hf_secret";
    at.hub.trick = () => new Response("no", { status });
    assertStringIncludes(await at.refusal(), `the hub answers ${status}`);
    assertEquals(at.hub.requests.length, 1, "trying again is no help");
  }
});

Deno.test("A hub that cannot be reached is told in one sentence", async () => {
  await using at = new Setting();
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  at.variables["HF_ENDPOINT"] = `http://127.0.0.1:${port}`;
  const message = await at.refusal();
  assertStringIncludes(
    message,
    `Cannot download "org/model" as 127.0.0.1:${port} cannot be reached`,
  );
  assertStringIncludes(message, `the hub cache "${at.cache}" does not hold it`);
  assertEquals(names(at.cache), []);
});

Deno.test("A connection that is cut goes on where it was", async () => {
  await using at = new Setting();
  let cuts = 0;
  at.hub.trick = ({ host }, honest) =>
    // More often than tries are allowed in a row: each one brings something.
    host === "store" && cuts++ < 9 ? at.hub.cut(honest(), 10_000) : undefined;
  await at.resolve();
  assertEquals(at.weightRequests.slice(0, 3), [null, "bytes=10000-", "bytes=20000-"]);
  assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), WEIGHTS);
});

Deno.test("An answer that ends early, without being cut, goes on too", async () => {
  await using at = new Setting();
  at.hub.trick = ({ host, range }) =>
    host === "store" && range === null ? new Response(WEIGHTS.subarray(0, HALF)) : undefined;
  // Such an answer has a length of its own, which is wrong: the store must leave it out.
  const chunked = at.hub.trick;
  at.hub.trick = async (request, honest) => {
    const answer = await chunked(request, honest);
    return answer === undefined
      ? honest()
      : new Response(ReadableStream.from([new Uint8Array(await answer.arrayBuffer())]));
  };
  await at.resolve();
  assertEquals(at.weightRequests, [null, `bytes=${HALF}-`]);
});

Deno.test("A connection on which nothing arrives is given up and resumed", async () => {
  await using at = new Setting();
  let stalls = 1;
  at.hub.trick = ({ host }, honest) =>
    host === "store" && stalls-- > 0 ? at.hub.stall(honest(), 1000) : undefined;
  await at.resolve(NAME, { times: { stallMs: 1000, backoffMs: 1, lockPollMs: 1 } });
  assertEquals(at.weightRequests, [null, "bytes=1000-"]);
});

Deno.test("A hub that is busy or broken is asked again, and in the end given up", async () => {
  for (const status of [429, 500, 503]) {
    await using at = new Setting();
    let failures = 3;
    at.hub.trick = () => failures-- > 0 ? new Response("busy", { status }) : undefined;
    assertEquals(await at.resolve(), at.snapshot);
  }
  await using at = new Setting();
  at.hub.trick = ({ host }) => host === "store" ? new Response("busy", { status: 503 }) : undefined;
  assertStringIncludes(await at.refusal(), "the hub answers 503; try again later");
  assertEquals(at.weightRequests.length, 5);
});

Deno.test("Retry-After is waited for, unless it is too long", async () => {
  await using at = new Setting();
  const stop = new AbortController();
  at.hub.trick = () => {
    // Long enough for many tries, if nobody waited.
    setTimeout(() => stop.abort(), 100);
    return new Response("busy", { status: 429, headers: { "retry-after": "200" } });
  };
  await assertRejects(() => at.resolve(NAME, { signal: stop.signal }), DOMException);
  assertEquals(at.hub.requests.length, 1);

  for (const later of ["3600", new Date(Date.now() + 3600e3).toUTCString()]) {
    at.hub.requests.length = 0;
    at.hub.trick = () => new Response("busy", { status: 429, headers: { "retry-after": later } });
    assertMatch(await at.refusal(), /answers 429 and asks to wait 3[56]\d\d s/);
    assertEquals(at.hub.requests.length, 1);
  }
});

Deno.test("An abort ends the download at once, and the next one goes on from there", async () => {
  await using at = new Setting();
  const stop = new AbortController();
  const reason = new Error("enough");
  at.hub.trick = ({ host, range }, honest) =>
    host === "store" && range === null ? at.hub.stall(honest(), HALF) : undefined;
  const onProgress = (done: number) => done > HALF && stop.abort(reason);
  const error = await assertRejects(() => at.resolve(NAME, { signal: stop.signal, onProgress }));
  assertEquals(error, reason);
  assertEquals(Deno.statSync(at.incomplete).size, HALF);
  assertEquals(names(at.folder).includes("refs"), false, "a ref stands for a whole model");
  await at.resolve();
  assertEquals(at.weightRequests, [null, `bytes=${HALF}-`]);
  assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), WEIGHTS);

  await assertRejects(() => at.resolve("org/other", { signal: AbortSignal.abort(reason) }));
});

Deno.test("The first failure ends the other downloads", async () => {
  const index = JSON.stringify({ weight_map: { a: "a.safetensors", b: "b.safetensors" } });
  const shard = largeContent(2);
  await using at = new Setting({
    files: {
      "config.json": CONFIG,
      "tokenizer.json": "{}",
      "model.safetensors.index.json": index,
      "a.safetensors": WEIGHTS,
      "b.safetensors": shard,
    },
  });
  at.hub.trick = ({ path }, honest) =>
    path.startsWith(`/${BLOB}`)
      ? new Response("gone", { status: 410 })
      : path.startsWith(`/${blobOf(shard)}`)
      ? at.hub.stall(honest(), 10)
      : undefined;
  // Nobody waits for the one that stalls: this would take eleven days.
  const times = { stallMs: 1e9, backoffMs: 1, lockPollMs: 1 };
  assertStringIncludes(await at.refusal(NAME, { times }), "410");
});

Deno.test("A part that is not a beginning of the file is dropped", async () => {
  const parts: [content: Uint8Array, requests: (string | null)[]][] = [
    [WEIGHTS, []],
    [new Uint8Array(HALF), [`bytes=${HALF}-`, null]],
    [new Uint8Array(WEIGHTS.byteLength), [null]],
    [new Uint8Array(WEIGHTS.byteLength + 1), [null]],
  ];
  for (const [content, requests] of parts) {
    await using at = new Setting();
    Deno.mkdirSync(`${at.folder}/blobs`, { recursive: true });
    Deno.writeFileSync(at.incomplete, content);
    await at.resolve();
    assertEquals(at.weightRequests, requests);
    assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), WEIGHTS);
  }
});

Deno.test("A store that knows no ranges, or refuses one, gives the whole file again", async () => {
  const tricks: FakeHub["trick"][] = [
    ({ host, range }) =>
      host === "store" && range !== null ? new Response(WEIGHTS.slice()) : undefined,
    ({ host, range }) =>
      host === "store" && range !== null ? new Response("", { status: 416 }) : undefined,
  ];
  for (const trick of tricks) {
    await using at = new Setting();
    Deno.mkdirSync(`${at.folder}/blobs`, { recursive: true });
    Deno.writeFileSync(at.incomplete, WEIGHTS.subarray(0, HALF));
    at.hub.trick = trick;
    await at.resolve();
    assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), WEIGHTS);
  }
});

Deno.test("A file that is not what the hub announced is refused, and nothing of it is kept", async () => {
  const wrong = largeContent(99);
  const endless = () => {
    let left = 1000;
    return new ReadableStream({
      pull(controller) {
        if (left-- > 0) controller.enqueue(new Uint8Array(10_000));
        else controller.close();
      },
    });
  };
  const at206 = (range: string) => ({ status: 206, headers: { "content-range": range } });
  const cases: [says: string, answer: () => Response][] = [
    [`hash ${blobOf(wrong)} instead of ${BLOB}`, () => new Response(wrong.slice())],
    ["has 7 bytes instead of 100000", () => new Response("short??")],
    ["content is longer than 100000 bytes", () => new Response(endless())],
    ["a web page", () => new Response("<html>", { headers: { "content-type": "text/html" } })],
    ["bytes 0-99999/100000", () => new Response(wrong.slice(), at206("bytes 5-99999/100000"))],
  ];
  for (const [says, answer] of cases) {
    await using at = new Setting();
    at.hub.trick = ({ host }) => host === "store" ? answer() : undefined;
    const message = await at.refusal();
    assertStringIncludes(message, says);
    assertStringIncludes(message, '"model.safetensors" of "org/model" at revision "main"');
    assertEquals(at.weightRequests.length, 1, "a lie is not tried again");
    assertEquals(names(at.snapshot), ["config.json", "tokenizer.json"]);
    const left = names(`${at.folder}/blobs`).filter((name) => name.endsWith(".incomplete"));
    for (const name of left) assertEquals(Deno.statSync(`${at.folder}/blobs/${name}`).size, 0);
  }
});

Deno.test("A small file with another content is found out by its git hash", async () => {
  await using at = new Setting();
  at.hub.trick = ({ path }, honest) => {
    if (!path.endsWith("/tokenizer.json")) return undefined;
    const { headers } = honest();
    return new Response("[]", { headers });
  };
  assertStringIncludes(await at.refusal(), `instead of ${blobOf("{}")}`);
});

Deno.test("Headers of the hub that contradict its listing are refused", async () => {
  for (
    const [header, value, says] of [
      ["x-linked-etag", '"abc"', `etag abc instead of ${BLOB}`],
      ["x-repo-commit", "f".repeat(40), `commit ${"f".repeat(40)} instead of`],
    ] as const
  ) {
    await using at = new Setting();
    at.hub.trick = ({ path }, honest) => {
      if (!path.endsWith("/model.safetensors")) return undefined;
      const answer = honest();
      answer.headers.set(header, value);
      return answer;
    };
    assertStringIncludes(await at.refusal(), says);
  }
});

Deno.test("A listing that cannot be right is refused before anything is written", async () => {
  const sha = "0123456789abcdef0123456789abcdef01234567";
  const file = { rfilename: "config.json", size: 2, blobId: sha };
  const listing = (change: object) => () =>
    Response.json({ sha, siblings: [{ ...file, ...change }] });
  const cases: [says: string, answer: () => Response][] = [
    ["is a proxy", () => new Response("<html>", { headers: { "content-type": "text/html" } })],
    ["must be a JSON object", () => Response.json([])],
    ["its commit is", () => Response.json({ sha: "../..", siblings: [] })],
    ["lists no files", () => Response.json({ sha })],
    ["is no object", () => Response.json({ sha, siblings: [7] })],
    ["leads elsewhere", listing({ rfilename: "../../config.json" })],
    ["leads elsewhere", listing({ rfilename: "/etc/passwd" })],
    ["leads elsewhere", listing({ rfilename: "a\\..\\b.gguf" })],
    ["leads elsewhere", listing({ rfilename: "c:model.gguf" })],
    ["leads elsewhere", listing({ rfilename: "a//b" })],
    ["leads elsewhere", listing({ rfilename: 7 })],
    ["the size of", listing({ size: -1 })],
    ["the size of", listing({ size: 1e30 })],
    ["the size of", listing({ size: "2" })],
    ["the hash of", listing({ blobId: "../../x" })],
    ["the hash of", listing({ lfs: { size: 5, sha256: sha } })],
  ];
  for (const [says, answer] of cases) {
    await using at = new Setting();
    at.hub.trick = answer;
    assertStringIncludes(await at.refusal(), says);
    assertEquals(names(at.cache), []);
  }
  await using at = new Setting();
  at.hub.trick = () =>
    Response.json({
      sha,
      siblings: [{ ...file, size: 2 ** 40 }, {
        ...file,
        rfilename: "tokenizer.json",
      }, { ...file, rfilename: "model.safetensors" }],
    });
  await assertRejects(() => at.resolve(), CheckpointError, "bytes, at most");
});

Deno.test("A listing without an end is given up", async () => {
  await using at = new Setting();
  at.hub.trick = () => {
    let left = 100;
    const chunk = new Uint8Array(1 << 20).fill(32);
    return new Response(
      new ReadableStream({
        pull(controller) {
          if (left-- > 0) controller.enqueue(chunk.slice());
          else controller.close();
        },
      }),
    );
  };
  assertStringIncludes(await at.refusal(), "it is longer than 67108864 bytes");
});

Deno.test("Redirects end somewhere, and lead to no other kind of place", async () => {
  for (
    const [says, location] of [
      ["more than 10 times", "/loop"],
      ["no safe place", "file:///etc/passwd"],
      ["no safe place", "http://[bad"],
    ] as const
  ) {
    await using at = new Setting();
    at.hub.trick = () => new Response("", { status: 302, headers: { location } });
    assertStringIncludes(await at.refusal(), says);
  }
  // A repository that was renamed: the hub redirects to itself, and the token goes along.
  await using at = new Setting({ token: "hf_secret" });
  at.variables["HF_TOKEN"] = "hf_secret";
  at.hub.trick = ({ path }) =>
    path.includes("/old/")
      ? new Response("", { status: 307, headers: { location: path.replace("old/name", NAME) } })
      : undefined;
  const folder = await at.resolve("old/name");
  assertEquals(folder, `${at.cache}/models--old--name/snapshots/${at.hub.commit}`);
});

Deno.test("Where links cannot be made the files themselves go into the snapshot", async () => {
  await using at = new Setting({
    tags: ["v1"],
    files: { ...FILES, "generation_config.json": "{}" },
  });
  const symlink = () => Promise.reject(new Error("A required privilege is not held"));
  assertEquals(await at.resolve(NAME, { symlink }), at.snapshot);
  for (const name of names(at.snapshot)) {
    assert(Deno.lstatSync(`${at.snapshot}/${name}`).isFile, name);
  }
  assertEquals(names(at.snapshot).length, 4);
  assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), WEIGHTS);
  assertEquals(names(`${at.folder}/blobs`), [], "nothing is kept twice");
  at.hub.requests.length = 0;
  assertEquals(await at.resolve(NAME, { symlink }), at.snapshot);
  assertEquals(await at.resolve(NAME, { symlink, revision: "v1" }), at.snapshot);
  assertEquals(at.hub.requests.length, 1);

  // A blob of somebody else's is copied, as another snapshot may link to it.
  Deno.removeSync(`${at.snapshot}/model.safetensors`);
  Deno.writeFileSync(`${at.folder}/blobs/${BLOB}`, WEIGHTS);
  await at.resolve(NAME, { symlink });
  assertEquals(names(`${at.folder}/blobs`), [BLOB]);
  assert(Deno.lstatSync(`${at.snapshot}/model.safetensors`).isFile);
});

Deno.test("Two calls at once download everything once", async () => {
  await using at = new Setting();
  const folders = await Promise.all([at.resolve(), at.resolve(), at.resolve()]);
  assertEquals(new Set(folders), new Set([at.snapshot]));
  const files = at.hub.paths.filter((path) => path.includes("/resolve/"));
  assertEquals(files.length, new Set(files).size);
});

Deno.test("A cache that cannot be written to is named", async () => {
  await using at = new Setting();
  Deno.writeTextFileSync(`${at.cache}/models--org--model`, "a file where a folder must be");
  assertStringIncludes(await at.refusal(), `Cannot download "org/model" into "${at.cache}": `);
});

Deno.test("At most four files are downloaded at once", async () => {
  const shards = Object.fromEntries(
    Array.from({ length: 9 }, (_, i) => [`m-${i}.safetensors`, largeContent(i + 20, 5000)]),
  );
  const weight_map = Object.fromEntries(Object.keys(shards).map((name) => [name, name]));
  await using at = new Setting({
    files: {
      "config.json": CONFIG,
      "tokenizer.json": "{}",
      "model.safetensors.index.json": JSON.stringify({ weight_map }),
      ...shards,
    },
  });
  let open = 0;
  let most = 0;
  const { promise: fourAreOpen, resolve: goOn } = Promise.withResolvers<void>();
  at.hub.trick = async ({ host }, honest) => {
    if (host === "hub") return honest();
    most = Math.max(most, ++open);
    // A fifth one gets the time to come.
    if (open === 4) setTimeout(goOn, 50);
    await fourAreOpen;
    open--;
    return honest();
  };
  await at.resolve();
  assertEquals(most, 4);
});

/** Weights of 100,000 bytes behind a header of 1000, of whatever. */
function withHeader(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(101_008).map((_, index) => index % 251);
  new DataView(bytes.buffer).setBigUint64(0, 1000n, true);
  return bytes;
}

Deno.test("Instead of weights their headers can be had, with a hole as long as the weights", async () => {
  const weights = withHeader();
  const pooling = { "1_Pooling/config.json": '{"pooling":1}' };
  await using at = new Setting({
    files: { ...FILES, ...pooling, "model.safetensors": weights },
  });
  // The first connection is cut inside the header, the second one ends nowhere.
  let cuts = 1;
  at.hub.trick = ({ host }, honest) =>
    host !== "store"
      ? undefined
      : cuts-- > 0
      ? at.hub.cut(honest(), 500)
      : at.hub.stall(honest(), 1500);
  const folder = `${at.cache}/headers`;
  const headersInto = () => {
    Deno.mkdirSync(folder);
    return folder;
  };
  assertEquals(await at.resolve(NAME, { headersInto }), folder);
  assertEquals(names(folder), ["1_Pooling", "config.json", "model.safetensors", "tokenizer.json"]);
  const content = Deno.readFileSync(`${folder}/model.safetensors`);
  assertEquals(content.byteLength, weights.byteLength);
  assertEquals(content.subarray(0, 1008), weights.subarray(0, 1008));
  assert(content.subarray(1008).every((byte) => byte === 0));
  assertEquals(names(at.snapshot), ["1_Pooling", "config.json", "tokenizer.json"]);
  const small = Object.values({ ...FILES, ...pooling, "model.safetensors": "" })
    .reduce((sum, { length }) => sum + length, 0);
  assertEquals(at.progress.at(-1), [small, small]);

  at.hub.trick = undefined;
  assertEquals(await at.resolve(), at.snapshot);
  assertEquals(Deno.readFileSync(`${at.snapshot}/model.safetensors`), weights);
  // What is in the cache is taken from there.
  const headersAgain = () => `${at.cache}/again`;
  assertEquals(await at.resolve(NAME, { headersInto: headersAgain }), at.snapshot);
});

Deno.test("A header that never comes whole is told in one sentence", async () => {
  await using at = new Setting({ files: { ...FILES, "model.safetensors": withHeader() } });
  at.hub.trick = ({ host }, honest) => host === "store" ? at.hub.cut(honest(), 500) : undefined;
  const headersInto = () => Deno.makeTempDirSync({ dir: at.cache });
  assertMatch(
    await at.refusal(NAME, { headersInto }),
    /^Cannot download the header of "model.safetensors" of "org\/model" at revision "main": .*; try again later$/,
  );
});
