/** Names of models: paths, the hub cache's layout, and what is said when nothing is there. */

import { assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { ModelNotFoundError } from "../../lib/base/errors.ts";
import { resolveModel } from "../../lib/models/hub.ts";

const COMMIT = "0123456789abcdef0123456789abcdef01234567";
const NAME = "org/tiny-model.v2";

function inTempFolder(run: (dir: string) => void): void {
  const dir = Deno.makeTempDirSync();
  try {
    run(dir);
  } finally {
    Deno.removeSync(dir, { recursive: true });
  }
}

function environmentOf(variables: Record<string, string>): (name: string) => string | undefined {
  return (name) => variables[name];
}

/** A hub cache at `cache` that holds {@linkcode NAME} at main, a branch and a pull request. */
function writeCache(cache: string, files: readonly string[] = ["config.json"]): string {
  const repository = `${cache}/models--org--tiny-model.v2`;
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
  [(dir) => ({ HF_HOME: `${dir}/b`, XDG_CACHE_HOME: `${dir}/c`, HOME: `${dir}/d` }), "b/hub"],
  [(dir) => ({ XDG_CACHE_HOME: `${dir}/c`, HOME: `${dir}/d` }), "c/huggingface/hub"],
  [(dir) => ({ HF_HUB_CACHE: "", HOME: `${dir}/d` }), "d/.cache/huggingface/hub"],
  [(dir) => ({ HF_HOME: "~/hf", HOME: `${dir}/d` }), "d/hf/hub"],
];

for (const [variables, cache] of CACHES) {
  Deno.test(`A hub model is found in ${cache}`, () => {
    inTempFolder((dir) => {
      const snapshot = writeCache(`${dir}/${cache}`);
      const environment = environmentOf(variables(dir));
      assertEquals(resolveModel(NAME, { environment }), snapshot);
    });
  });
}

Deno.test("A revision is a branch, a tag, a pull request or a commit", () => {
  inTempFolder((dir) => {
    const snapshot = writeCache(dir);
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    for (const revision of ["main", "v1.0", "pr/3", COMMIT]) {
      assertEquals(resolveModel(NAME, { environment, revision }), snapshot);
    }
    for (const revision of ["other", "../main", "pr", "f".repeat(40)]) {
      const resolve = () => resolveModel(NAME, { environment, revision });
      assertThrows(resolve, ModelNotFoundError, `revision "${revision}"`);
    }
  });
});

Deno.test("A folder without safetensors but with one GGUF file means that file", () => {
  inTempFolder((dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    const snapshot = writeCache(dir, ["config.json", "README.md", "m.Q4_0.gguf"]);
    assertEquals(resolveModel(NAME, { environment }), `${snapshot}/m.Q4_0.gguf`);
    assertEquals(resolveModel(`${snapshot}/`), `${snapshot}/m.Q4_0.gguf`);
    Deno.writeTextFileSync(`${snapshot}/m.Q8_0.gguf`, "");
    const resolve = () => resolveModel(NAME, { environment });
    assertThrows(resolve, ModelNotFoundError, "m.Q4_0.gguf, m.Q8_0.gguf");
    Deno.writeTextFileSync(`${snapshot}/model.safetensors`, "");
    assertEquals(resolveModel(NAME, { environment }), snapshot);
  });
});

Deno.test("A path that exists is the model, whatever the cache holds", () => {
  inTempFolder((dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: `${dir}/cache`, HOME: dir });
    writeCache(`${dir}/cache`);
    Deno.mkdirSync(`${dir}/models`);
    Deno.writeTextFileSync(`${dir}/models/m.gguf`, "");
    assertEquals(resolveModel(`${dir}/models/m.gguf`, { environment }), `${dir}/models/m.gguf`);
    assertEquals(resolveModel("~/models/m.gguf", { environment }), `${dir}/models/m.gguf`);
  });
});

Deno.test("A relative path that exists wins over a hub model of the same name", () => {
  inTempFolder((dir) => {
    // Every task runs in the repository's root, where this is a folder without .gguf files.
    Deno.mkdirSync(`${dir}/models--lib--models/snapshots/${COMMIT}`, { recursive: true });
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    assertEquals(resolveModel("lib/models", { environment }), "lib/models");
  });
});

Deno.test("What looks like a path is never looked up in the hub cache", () => {
  const environment = (name: string): string => {
    if (name === "HOME") return "/nowhere";
    throw new Error(`The environment's ${name} is read`);
  };
  for (const name of ["/none/model", "./none/model", "../none", "~/none/model", "~other/model"]) {
    const resolve = () => resolveModel(name, { environment });
    const error = assertThrows(resolve, ModelNotFoundError, `"${name}"`);
    assertStringIncludes(error.message, "no such file or folder");
  }
});

Deno.test("A hub model that is not in the cache is refused with what to do about it", () => {
  inTempFolder((dir) => {
    const environment = environmentOf({ HF_HUB_CACHE: dir });
    const error = assertThrows(
      () => resolveModel("org/absent", { environment }),
      ModelNotFoundError,
      '"org/absent" at revision "main"',
    );
    for (const part of [dir, "downloads are not built yet", "hf download org/absent", ".gguf"]) {
      assertStringIncludes(error.message, part);
    }
    const nowhere = () => resolveModel("org/absent", { environment: environmentOf({}) });
    assertThrows(nowhere, ModelNotFoundError, "no hub cache is known");
  });
});

Deno.test("Names that are neither paths nor hub names are refused", () => {
  const environment = environmentOf({ HF_HUB_CACHE: "/nowhere" });
  for (const name of ["", "model", "a/b/c", "org/..x", "org/a--b", "a b/c"]) {
    assertThrows(
      () => resolveModel(name, { environment }),
      ModelNotFoundError,
      "organization/model",
    );
  }
});

Deno.test({
  name: "Without permission for the environment no hub cache is known",
  permissions: { read: true, env: false },
  fn() {
    assertThrows(() => resolveModel("org/absent"), ModelNotFoundError, "no hub cache is known");
  },
});
