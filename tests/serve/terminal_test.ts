/** Lines, progress, banner, and what happens when serving ends, without a process. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import {
  ChatTemplateError,
  CheckpointError,
  InvalidParameterError,
  ModelNotFoundError,
} from "../../lib/base/errors.ts";
import { banner, type BannerFacts } from "../../serve/banner.ts";
import { drain } from "../../serve/lifecycle.ts";
import { listenFailure } from "../../serve/listening.ts";
import { explain } from "../../serve/start.ts";
import { type LogLevel, showLoading, Terminal } from "../../serve/terminal.ts";
import { classifierModel, embeddingModel } from "../helpers/fake_pooling.ts";
import { FakeLLM } from "../openai/fake_llm.ts";
import { post, send } from "../openai/requests.ts";

function recorder(options: { isTerminal: boolean; color?: boolean }): [Terminal, () => string] {
  let text = "";
  let time = 0;
  const terminal = new Terminal({
    write: (piece) => void (text += piece),
    color: false,
    ...options,
    now: () => time += 30,
  });
  return [terminal, () => text];
}

Deno.test("Progress is one redrawn line on a terminal, drawn not too often", () => {
  const [terminal, text] = recorder({ isTerminal: true });
  for (let done = 0; done <= 10; done++) terminal.progress("Reading", done, 10, "count");
  terminal.progress("Reading", 10, 10, "count");
  terminal.say("done");
  const lines = text().split("\n");
  assertEquals(lines.length, 3);
  assert((lines[0]?.split("\r").length ?? 0) < 9, "not every step is drawn");
  assert(lines[0]?.endsWith("[########################] Reading 10 of 10 (100 %)"));
  assertEquals(lines[1], "done");
});

Deno.test("Progress is two lines a label where nothing can be redrawn", () => {
  const [terminal, text] = recorder({ isTerminal: false });
  for (let done = 0; done <= 1e6; done += 1e5) terminal.progress("Reading", done, 1e6, "bytes");
  terminal.progress("Compiling", 0, 2, "count");
  terminal.progress("Compiling", 2, 2, "count");
  assertEquals(text().split("\n"), [
    "Reading 0.0 of 1.0 MB (0 %)",
    "Reading 1.0 of 1.0 MB (100 %)",
    "Compiling 0 of 2 (0 %)",
    "Compiling 2 of 2 (100 %)",
    "",
  ]);
});

Deno.test("Where nothing can be redrawn, a long download gets a line every half minute", () => {
  const [terminal, text] = recorder({ isTerminal: false });
  const show = showLoading(terminal);
  // The clock of these tests goes on by 30 ms a call.
  for (let done = 0; done <= 2500; done++) {
    show({ stage: "download", done: done * 1e6, total: 2500e6 });
  }
  assertEquals(text().split("\n"), [
    "Downloading 0.0 of 2500.0 MB (0 %)",
    "Downloading 1000.0 of 2500.0 MB (40 %)",
    "Downloading 2000.0 of 2500.0 MB (80 %)",
    "Downloading 2500.0 of 2500.0 MB (100 %)",
    "",
  ]);
});

Deno.test("A line never starts in the middle of a progress line", () => {
  const [terminal, text] = recorder({ isTerminal: true });
  terminal.progress("Reading", 1, 10, "count");
  terminal.fail("it broke");
  assertStringIncludes(text(), "(10 %)\nerror: it broke\n");
});

Deno.test("Only lines of the level and above are written", () => {
  const lines = (level: LogLevel) => {
    const [terminal, text] = recorder({ isTerminal: false });
    terminal.setLevel(level);
    terminal.say("debug", "debug");
    terminal.progress("Reading", 1, 1, "count");
    terminal.say("info");
    terminal.warn("odd");
    terminal.fail("broken");
    terminal.say("404", "critical");
    return text().trimEnd().split("\n");
  };
  const all = ["debug", "Reading 1 of 1 (100 %)", "info", "warning: odd", "error: broken", "404"];
  assertEquals(lines("trace"), all);
  assertEquals(lines("debug"), all);
  assertEquals(lines("info"), all.slice(1));
  assertEquals(lines("warning"), all.slice(3));
  assertEquals(lines("error"), all.slice(4));
  assertEquals(lines("critical"), all.slice(5));
});

Deno.test("Colours are used only where they are wanted", () => {
  assertEquals(recorder({ isTerminal: true, color: true })[0].bold("x"), "\x1b[1mx\x1b[0m");
  assertEquals(recorder({ isTerminal: true })[0].bold("x"), "x");
});

const FACTS: BannerFacts = {
  info: {
    architecture: "LlamaForCausalLM",
    task: "generate",
    parameterCount: 134_515_008,
    maxPromptLength: 2047,
    maxContextLength: 2048,
    hasChatTemplate: true,
    kernelFallbacks: [],
  },
  name: "SmolLM2",
  version: "1.2.3",
  address: { hostname: "0.0.0.0", port: 8000 },
  needsKey: false,
};

Deno.test("The banner names model, address and context, and has a line to copy", () => {
  const text = banner(FACTS, (word) => word);
  for (const words of ["SmolLM2 is ready at http://localhost:8000", "135 M", "2,048", "1.2.3"]) {
    assertStringIncludes(text, words);
  }
  assertStringIncludes(text, "curl http://localhost:8000/v1/chat/completions -H");
});

Deno.test("The banner says so when anyone on the network may come in", () => {
  const open = (facts: BannerFacts) =>
    banner(facts, (word) => word).includes("anyone on the network");
  assertEquals(open(FACTS), true);
  assertEquals(open({ ...FACTS, needsKey: true }), false);
  assertEquals(open({ ...FACTS, address: { hostname: "127.0.0.1", port: 8000 } }), false);
});

Deno.test("The banner tells of kernels that another computes for", () => {
  const info = { ...FACTS.info, kernelFallbacks: ["matmul.bf16: computed by reference.matmul"] };
  assertStringIncludes(
    banner({ ...FACTS, info }, (word) => word),
    "Warning  slow, as kernels fail here: matmul.bf16: computed by reference.matmul",
  );
  assertEquals(banner(FACTS, (word) => word).includes("Warning"), false);
});

Deno.test("The line to copy fits the model, the address and the key", () => {
  const info = { ...FACTS.info, hasChatTemplate: false };
  const text = banner(
    { ...FACTS, info, address: { hostname: "::1", port: 8000 }, needsKey: true },
    (word) => word,
  );
  assertStringIncludes(text, "curl http://[::1]:8000/v1/completions");
  assertStringIncludes(text, '-H "Authorization: Bearer YOUR_KEY"');
});

Deno.test("The banner names HTTPS, and a socket with how to ask there", () => {
  const address = { hostname: "127.0.0.1", port: 8443, isSecure: true };
  assertStringIncludes(
    banner({ ...FACTS, address }, (word) => word),
    "curl https://127.0.0.1:8443",
  );
  const socket = banner({ ...FACTS, address: { path: "a.sock" } }, (word) => word);
  assertStringIncludes(socket, "is ready at a.sock");
  assertStringIncludes(socket, "curl --unix-socket a.sock http://localhost/v1/chat/completions");
});

Deno.test("The line to copy asks for what the model is for, and is answered", async () => {
  const models: readonly (readonly [FakeLLM, string])[] = [
    [new FakeLLM(), "/v1/chat/completions"],
    [new FakeLLM({ pooling: embeddingModel() }), "/v1/embeddings"],
    [new FakeLLM({ pooling: classifierModel(1) }), "/rerank"],
    [new FakeLLM({ pooling: classifierModel(3) }), "/classify"],
  ];
  for (const [llm, route] of models) {
    const text = banner({ ...FACTS, info: llm.info }, (word) => word);
    const [, path, body] = text.match(/curl http:\/\/localhost:8000(\S+) .* -d '([^']*)'\n/) ?? [];
    assertEquals(path, route);
    const response = await send(post(route, body), llm);
    assertEquals(response.status, 200, `${route}: ${await response.text()}`);
    assertEquals(text.includes("prompt and answer"), llm.info.task === "generate");
  }
});

Deno.test("A model's refusal is told in the words of the command line", () => {
  const [terminal, text] = recorder({ isTerminal: false });
  const error = new InvalidParameterError(
    "maxBatchSize",
    0,
    "Cannot use maxBatchSize 0: at least 1",
  );
  assertEquals(explain(error, terminal), 2);
  assertEquals(explain(new CheckpointError("x.gguf", "Cannot read x.gguf"), terminal), 1);
  const given = '{"batchSize":1,"attentionSize":900}';
  const bucket = `Cannot use ${given} in prefillBuckets: attentionSize must be at most 512`;
  assertEquals(explain(new InvalidParameterError("prefillBuckets", [], bucket), terminal), 2);
  const template = 'Cannot read the chat template of "chatTemplate": no task for threads';
  assertEquals(explain(new ChatTemplateError(template), terminal), 2);
  const nowhere = new ModelNotFoundError("There is none");
  for (const name of ["help", "version", "x"]) assertEquals(explain(nowhere, terminal, name), 1);
  const broken = new CheckpointError("t.json", 'Cannot read "t.json": Unexpected token in "a\nb"');
  assertEquals(explain(broken, terminal), 1);
  const overrides = "overrideGenerationConfig";
  const topP = `Cannot use top_p 0 of "${overrides}": it must be above 0`;
  assertEquals(explain(new InvalidParameterError(overrides, {}, topP), terminal), 2);
  assertEquals(
    text(),
    "error: Cannot use --max-batch-size 0: at least 1\nerror: Cannot read x.gguf\n" +
      "error: Cannot use 1,900 in --prefill-buckets: LENGTH must be at most 512\n" +
      "error: Cannot read the chat template of --chat-template: no task for threads\n" +
      "error: There is none; --help shows the flags\n" +
      "error: There is none; --version shows the version\nerror: There is none\n" +
      'error: Cannot read "t.json": Unexpected token in "a b"\n' +
      "error: Cannot use top_p 0 of --override-generation-config: it must be above 0\n",
  );
});

Deno.test("An error of listening becomes one sentence", () => {
  const listening = { kind: "port", hostname: "h", port: 80, tls: undefined } as const;
  assertEquals(
    listenFailure(new Deno.errors.PermissionDenied("no"), listening),
    "Cannot listen on port 80 without permission: choose one above 1023 with --port",
  );
  assertEquals(listenFailure(new Error("odd"), listening), "Cannot listen on h port 80: odd");
});

/** A server whose requests end when the test says so, or when they are cut. */
function fakeServer(): { readonly shutdown: () => Promise<void>; readonly end: () => void } {
  const { promise, resolve } = Promise.withResolvers<void>();
  return { shutdown: () => promise, end: resolve };
}

Deno.test("Draining waits for open requests and cuts nothing when they end in time", async () => {
  const server = fakeServer();
  setTimeout(server.end, 5);
  let cuts = 0;
  const finished = await drain(server, 10, () => Promise.resolve(void cuts++));
  assertEquals([finished, cuts], [true, 0]);
});

Deno.test("Draining cuts what is open when the time is up, at once for 0", async () => {
  for (const timeout of [0, 0.01]) {
    const server = fakeServer();
    let cuts = 0;
    const finished = await drain(server, timeout, () => {
      cuts++;
      server.end();
      return Promise.resolve();
    });
    assertEquals([finished, cuts], [false, 1]);
  }
});
