/** Names of models: paths, the hub cache's layout, and what is said when nothing is there. */

import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { InvalidParameterError, ModelNotFoundError } from "../../lib/base/errors.ts";
import { resolveModel } from "../../lib/models/hub.ts";
import { readHubSettings } from "../../lib/models/hub_settings.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const NAME = "org/tiny-model.v2";
const COMPLETE = ["config.json", "tokenizer.json", "model.safetensors"];

async function inTempFolder(run: (dir: string) => Promise<void>): Promise<void> {
  const dir = Deno.makeTempDirSync();
  try {
    await run(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

/** An environment in which nothing is ever downloaded. */
function environmentOf(variables: Record<string, string>): (name: string) => string | undefined {
  return (name) => ({ HF_HUB_OFFLINE: "1", ...variables })[name];
}

/** A hub cache at `cache` that holds {@linkcode NAME} at main, a branch and a pull request. */
function writeCache(cache: string, files: readonly string[] = COMPLETE, name = NAME): string {
  const repository = `${cache}/models--${name.replace("/", "--")}`;
  const snapshot = `${repository}/snapshots/${COMMIT}`;
  Deno.mkdirSync(snapshot, { recursive: true });
  Deno.mkdirSync(`${repository}/refs/pr`, { recursive: true });
  for (const ref of ["main", "v1.0", "pr/3"]) {
    Deno.writeTextFileSync(`${repository}/refs/${ref}`, `${COMMIT}\n`);
  }
  for (const file of files) Deno.writeTextFileSync(`${snapshot}/${file}`, "");
  return snapshot;
}

const CACHES: readonly [variables: (dir: string) => Record<string, string>, cache: string][] = [
  [(dir) => ({ HF_HUB_CACHE: `${dir}/a`, HF_HOME: `${dir}/b`, HOME: `${dir}/d` }), "a"],
  [(dir) => ({ HUGGINGFACE_HUB_CACHE: `${dir}/a`, HF_HOME: `${dir}/b` }), "a"],
  [(dir) => ({ HF_HOME: `${dir}/b`, XDG_CACHE_HOME: `${dir}/c`, HOME: `${dir}/d` }), "b/hub"],
  [(dir) => ({ XDG_CACHE_HOME: `${dir}/c`, HOME: `${dir}/d` }), "c/huggingface/hub"],
  [(dir) => ({ HF_HUB_CACHE: "", HOME: `${dir}/d` }), "d/.cache/huggingface/hub"],
  [(dir) => ({ HF_HOME: "~/hf", HOME: `${dir}/d` }), "d/hf/hub"],
];

for (const [variables, cache] of CACHES) {
  Deno.test(`A hub model is found in ${cache} by ${Object.keys(variables("")).join(", ")}`, () =>
    inTempFolder(async (dir) => {
      const snapshot = writeCache(`${dir}/${cache}`);
      const environment = environmentOf(variables(dir));
      assertEquals(await resolveModel(NAME, { environment }), snapshot);
    }));
}

Deno.test("A revision is a branch, a tag, a pull request or a commit", () =>
  inTempFolder(async (dir) => {
    const snapshot = writeCache(dir);
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    for (const revision of ["main", "v1.0", "pr/3", COMMIT]) {
      assertEquals(await resolveModel(NAME, { environment, revision }), snapshot);
    }
    for (const revision of ["other", "pr", "f".repeat(40)]) {
      const resolving = () => resolveModel(NAME, { environment, revision });
      await assertRejects(resolving, ModelNotFoundError, "does not hold it");
    }
    for (
      const revision of ["", "../main", "a/../b", "/main", "a b", "a\\b", ".git", "a".repeat(300)]
    ) {
      const resolving = () => resolveModel(NAME, { environment, revision });
      const error = await assertRejects(resolving, InvalidParameterError, `"${revision}"`);
      assertEquals(error.parameter, "revision");
    }
  }));

Deno.test("A model of furiosa-ai is that of the release, else that of main", () =>
  inTempFolder(async (dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    const snapshot = writeCache(dir, COMPLETE, "furiosa-ai/model");
    assertEquals(await resolveModel("furiosa-ai/model", { environment }), snapshot);
    const repository = `${dir}/models--furiosa-ai--model`;
    const other = `${repository}/snapshots/${"a".repeat(40)}`;
    Deno.mkdirSync(other);
    for (const file of COMPLETE) Deno.writeTextFileSync(`${other}/${file}`, "");
    Deno.writeTextFileSync(`${repository}/refs/v2026.1`, "a".repeat(40));
    assertEquals(await resolveModel("furiosa-ai/model", { environment }), other);
  }));

Deno.test("A snapshot without weights, tokenizer or a shard is not a model in the cache", () =>
  inTempFolder(async (dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    const resolving = () => resolveModel(NAME, { environment });
    const snapshot = writeCache(dir, ["config.json", "tokenizer.json"]);
    await assertRejects(resolving, ModelNotFoundError);
    const index = { weight_map: { a: "m-1.safetensors", b: "m-2.safetensors" } };
    Deno.writeTextFileSync(`${snapshot}/model.safetensors.index.json`, JSON.stringify(index));
    Deno.writeTextFileSync(`${snapshot}/m-1.safetensors`, "");
    await assertRejects(resolving, ModelNotFoundError);
    Deno.symlinkSync("../../blobs/absent", `${snapshot}/m-2.safetensors`);
    await assertRejects(resolving, ModelNotFoundError);
    Deno.mkdirSync(`${snapshot}/../../blobs`);
    Deno.writeTextFileSync(`${snapshot}/../../blobs/absent`, "");
    assertEquals(await resolving(), snapshot);
    Deno.removeSync(`${snapshot}/tokenizer.json`);
    await assertRejects(resolving, ModelNotFoundError);
  }));

Deno.test("A folder without safetensors but with one GGUF file means that file", () =>
  inTempFolder(async (dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    const snapshot = writeCache(dir, ["config.json", "README.md", "m.Q4_0.gguf"]);
    assertEquals(await resolveModel(NAME, { environment }), `${snapshot}/m.Q4_0.gguf`);
    assertEquals(await resolveModel(`${snapshot}/`), `${snapshot}/m.Q4_0.gguf`);
    Deno.writeTextFileSync(`${snapshot}/m.Q8_0.gguf`, "");
    const resolving = () => resolveModel(NAME, { environment });
    await assertRejects(resolving, ModelNotFoundError, "m.Q4_0.gguf, m.Q8_0.gguf");
    for (const name of [`${NAME}:q8_0`, `${NAME}/m.Q8_0.gguf`]) {
      assertEquals(await resolveModel(name, { environment }), `${snapshot}/m.Q8_0.gguf`);
    }
    for (const name of [`${NAME}:Q5_K`, `${NAME}:0`, `${NAME}/m.gguf`]) {
      await assertRejects(() => resolveModel(name, { environment }), ModelNotFoundError);
    }
    for (const file of COMPLETE) Deno.writeTextFileSync(`${snapshot}/${file}`, "");
    assertEquals(await resolveModel(NAME, { environment }), snapshot);
  }));

Deno.test("A path that exists is the model, whatever the cache holds", () =>
  inTempFolder(async (dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: `${dir}/cache`, HOME: dir });
    writeCache(`${dir}/cache`);
    Deno.mkdirSync(`${dir}/models`);
    Deno.writeTextFileSync(`${dir}/models/m.gguf`, "");
    const path = `${dir}/models/m.gguf`;
    assertEquals(await resolveModel(path, { environment }), path);
    assertEquals(await resolveModel("~/models/m.gguf", { environment }), path);
  }));

Deno.test("The URL of a file or folder means it, and no other URL does", () =>
  inTempFolder(async (dir) => {
    const environment = environmentOf({});
    Deno.mkdirSync(`${dir}/my model`);
    const url = new URL(`file://${dir}/my model`).href;
    assertEquals(await resolveModel(url, { environment }), `${dir}/my model`);
    for (const other of ["file://elsewhere.example/model", `${url}/none`]) {
      await assertRejects(() => resolveModel(other, { environment }), ModelNotFoundError, other);
    }
  }));

Deno.test("A relative path that exists wins over a hub model of the same name", () =>
  inTempFolder(async (dir) => {
    // Every task runs in the repository's root, where this is a folder without .gguf files.
    writeCache(dir, COMPLETE, "lib/models");
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    assertEquals(await resolveModel("lib/models", { environment }), "lib/models");
  }));

Deno.test("What looks like a path is never looked up on the hub", async () => {
  const environment = (name: string): string => {
    if (name === "HOME") return "/nowhere";
    throw new Error(`The environment's ${name} is read`);
  };
  for (const name of ["/none/model", "./none/model", "../none", "~/none/model", "~other/model"]) {
    const resolving = () => resolveModel(name, { environment });
    const error = await assertRejects(resolving, ModelNotFoundError, `"${name}"`);
    assertStringIncludes(error.message, "no such file or folder");
  }
});

Deno.test("Offline, a model that is not in the cache is refused in one sentence", () =>
  inTempFolder(async (dir) => {
    for (const variable of ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]) {
      const variables: Record<string, string> = { HF_HUB_CACHE: dir, [variable]: "TRUE" };
      const error = await assertRejects(
        () => resolveModel("org/absent", { environment: (name) => variables[name] }),
        ModelNotFoundError,
      );
      assertEquals(
        error.message,
        `Cannot load "org/absent": HF_HUB_OFFLINE is set, and the hub cache "${dir}" does not hold it`,
      );
    }
    const nowhere = () => resolveModel("org/absent", { environment: environmentOf({}) });
    await assertRejects(nowhere, ModelNotFoundError, "no hub cache is known");
  }));

Deno.test("Names that are neither paths nor hub names are refused", async () => {
  const environment = environmentOf({ HF_HUB_CACHE: "/nowhere" });
  const names = [
    "",
    "model",
    "a/b/c",
    "org/..x",
    "org/a--b",
    "a b/c",
    "a/b/../c.gguf",
    "a/b/c\\d.gguf",
  ];
  for (const name of names) {
    await assertRejects(
      () => resolveModel(name, { environment }),
      ModelNotFoundError,
      "organization/model",
    );
  }
});

Deno.test("The token is that of HF_TOKEN, else what hf auth login has left", () =>
  inTempFolder(async (dir) => {
    const tokenOf = (variables: Record<string, string>) =>
      readHubSettings((name) => variables[name], "http://hub").token;
    assertEquals(tokenOf({ HF_HOME: dir }), undefined);
    await Deno.writeTextFile(`${dir}/token`, "hf_kept\n");
    assertEquals(tokenOf({ HF_HOME: dir }), "hf_kept");
    assertEquals(tokenOf({ HF_HOME: dir, HF_TOKEN: "hf_given" }), "hf_given");
    assertEquals(tokenOf({ HF_HOME: dir, HF_TOKEN_PATH: `${dir}/none` }), undefined);
    const wrong = () => tokenOf({ HF_TOKEN: "hf_a\nhost: b" });
    const error = assertThrows(wrong, RangeError, "HF_TOKEN");
    assertEquals(error.message.includes("hf_a"), false, "a secret is not for messages");
  }));

Deno.test("The endpoint must be an address, and loses its last slash", () => {
  const endpointOf = (value: string) =>
    readHubSettings((name) => name === "HF_ENDPOINT" ? value : undefined, "http://hub/").endpoint;
  assertEquals(endpointOf(""), "http://hub");
  assertEquals(endpointOf("https://mirror/hf/"), "https://mirror/hf");
  for (const value of ["mirror", "ftp://mirror", "https://mirror?a=1"]) {
    assertThrows(() => endpointOf(value), RangeError, value);
  }
});

Deno.test({
  name: "Without permission for the environment no hub cache is known",
  permissions: { read: true, env: false },
  async fn() {
    await assertRejects(
      () => resolveModel("org/absent"),
      ModelNotFoundError,
      "no hub cache is known",
    );
  },
});
