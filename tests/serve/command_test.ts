/** The command as a process: banner, answers, ports, and how it ends. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { restartArgs } from "../../serve/unsafe_fast.ts";
import { Running } from "./running.ts";

const HELLO = JSON.stringify({ messages: [{ role: "user", content: "Hi" }], stream: true });

function ask(url: string): Promise<Response> {
  const headers = { "content-type": "application/json" };
  return fetch(`${url}/v1/chat/completions`, { method: "POST", headers, body: HELLO });
}

Deno.test("The command shows progress and a banner, answers, and ends quietly at SIGTERM", async () => {
  await using running = new Running(["fake", "--port=0", "--host=127.0.0.1"]);
  const url = await running.url();
  assertStringIncludes(running.text, "Reading weights 2.0 of 2.0 MB (100 %)");
  assertStringIncludes(running.text, "128 tokens, prompt and answer together");
  assert(!running.text.includes("\x1b"), "no colours where nobody sees them");
  const answer = await (await ask(url)).text();
  assertStringIncludes(answer, "data: [DONE]");
  running.process.kill("SIGTERM");
  assertEquals(await running.code(), 0);
  assertStringIncludes(running.text, "closed");
});

Deno.test("At Ctrl-C an open answer is finished before the command ends", async () => {
  const env = { FAKE_TOKEN_MS: "60" };
  await using running = new Running(["fake", "--port=0", "--host=127.0.0.1"], env);
  const response = await ask(await running.url());
  running.process.kill("SIGINT");
  await running.said("Stopping");
  const late = await ask(await running.url()).then(
    (other) => other.body?.cancel(),
    () => "refused",
  );
  assertEquals(late, "refused");
  const text = await response.text();
  assertStringIncludes(text, '"finish_reason":"stop"');
  assertStringIncludes(text, "data: [DONE]");
  assertEquals(await running.code(), 0);
});

Deno.test("Answers that outlast the shutdown timeout are cut", async () => {
  for (const timeout of ["0", "0.1"]) {
    const env = { FAKE_TOKEN_MS: "3000" };
    const flags = ["--port=0", "--host=127.0.0.1", `--shutdown-timeout=${timeout}`];
    await using running = new Running(["fake", ...flags], env);
    const url = await running.url();
    const answer = ask(url).then((response) => response.text());
    await running.said("a token begins");
    running.process.kill("SIGTERM");
    const started = performance.now();
    assertEquals(await running.code(), 0);
    assert(performance.now() - started < 2500, "it did not wait for the answer");
    assertStringIncludes(await answer, '"message":"The server is shutting down"');
    assertStringIncludes(running.text, "\n1 open request was ended\n");
  }
});

Deno.test("A stream that is cut in its middle ends with an error event", async () => {
  const env = { FAKE_TOKEN_MS: "300" };
  const flags = ["--port=0", "--host=127.0.0.1", "--shutdown-timeout=0"];
  await using running = new Running(["fake", ...flags], env);
  const response = await ask(await running.url());
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (!text.includes('"content":"Hel"')) text += (await reader?.read())?.value ?? "";
  running.process.kill("SIGTERM");
  for (let done = false; !done;) {
    const part = await reader?.read();
    text += part?.value ?? "";
    done = part?.done ?? true;
  }
  assertStringIncludes(text, 'data: {"error":{"message":"The server is shutting down"');
  assert(text.endsWith("data: [DONE]\n\n"));
  assertEquals(await running.code(), 0);
  assertStringIncludes(running.text, "Stopping: open requests are ended");
});

Deno.test("A whole answer that is cut in its middle breaks off, and nobody is shown a stack", async () => {
  const env = { FAKE_TOKEN_MS: "300" };
  await using running = new Running(["fake", "--port=0", "--shutdown-timeout=0"], env);
  const body = JSON.stringify({ prompt: "a", max_tokens: 100 });
  const headers = { "content-type": "application/json" };
  const response = await fetch(`${await running.url()}/v1/completions`, {
    method: "POST",
    body,
    headers,
  });
  const answer = response.text().then(() => "whole", () => "cut");
  running.process.kill("SIGTERM");
  assertEquals(await answer, "cut");
  assertEquals(await running.code(), 0);
  assertStringIncludes(running.text, "1 open request was ended");
  assert(!/Error|^ +at /m.test(running.text), running.text);
});

Deno.test("A server whose lines nobody reads any more goes on serving", async () => {
  await using running = new Running(["fake", "--port=0", "--host=127.0.0.1"]);
  const url = await running.url();
  await running.closeErrors();
  for (let i = 0; i < 2; i++) {
    const response = await ask(url);
    assertEquals([response.status, (await response.text()).endsWith("[DONE]\n\n")], [200, true]);
  }
  running.process.kill("SIGTERM");
  assertEquals((await running.process.status).code, 0);
});

Deno.test("While open answers are finished, connections that wait for a request are closed", async () => {
  const env = { FAKE_TOKEN_MS: "60" };
  await using running = new Running(["fake", "--port=0", "--host=127.0.0.1"], env);
  const url = new URL(await running.url());
  using idle = await Deno.connect({ hostname: url.hostname, port: Number(url.port) });
  const request = new TextEncoder().encode("GET /health HTTP/1.1\r\nhost: test\r\n\r\n");
  await idle.write(request);
  assert(await idle.read(new Uint8Array(1024)) !== null, "it is kept open after an answer");
  const answer = ask(url.origin).then((response) => response.text());
  await running.said("a token begins");
  running.process.kill("SIGTERM");
  assertEquals(await idle.read(new Uint8Array(1024)), null);
  assertStringIncludes(await answer, "data: [DONE]");
  assertEquals(await running.code(), 0);
});

Deno.test("A second Ctrl-C ends at once", async () => {
  const env = { FAKE_TOKEN_MS: "5000" };
  await using running = new Running(["fake", "--port=0", "--host=127.0.0.1"], env);
  const answer = ask(await running.url()).then((response) => response.text()).catch(() => "cut");
  await running.said("a token begins");
  running.process.kill("SIGINT");
  await running.said("Stopping");
  running.process.kill("SIGINT");
  assertEquals(await running.code(), 0);
  assertEquals(await answer, "cut");
});

Deno.test("Ctrl-C while the model loads ends the command quietly", async () => {
  await using running = new Running(["slow", "--port=0"]);
  await running.said("loading");
  running.process.kill("SIGINT");
  assertEquals(await running.code(), 0);
});

Deno.test("Flags without effect are named in one line at the start, and a key of the environment counts", async () => {
  const flags = ["--port=0", "--host=127.0.0.1", "-tp", "8", "--devices=npu:0"];
  await using running = new Running(["serve", "fake", ...flags], { VLLM_API_KEY: "secret" });
  const url = await running.url();
  const [first] = running.text.split("\n");
  assertEquals(first, "warning: no effect here: --tensor-parallel-size, --devices");
  assertStringIncludes(running.text, "Authorization: Bearer YOUR_KEY");
  const response = await ask(url);
  assertEquals(response.status, 401);
  await response.body?.cancel();
  await running.said('- "POST /v1/chat/completions" 401');
  assert(!running.text.includes("secret"));
});

Deno.test("A file of flags configures the command, and at level warning it says nothing but errors", async () => {
  const file = await Deno.makeTempFile({ suffix: ".yaml" });
  try {
    const yaml = "model: fake\nport: 0\nhost: 127.0.0.1\nenable-log-requests: true\n";
    await Deno.writeTextFile(file, yaml);
    await using running = new Running(["--config", file]);
    const url = await running.url();
    await (await ask(url)).text();
    await running.said('POST /v1/chat/completions {"stream":true}');
    await running.said('- "POST /v1/chat/completions" 200');

    await Deno.writeTextFile(file, `${yaml}uvicorn-log-level: warning\n`);
    await using quiet = new Running(["--config", file, "missing"]);
    assertEquals(await quiet.code(), 1);
    assertEquals(quiet.text, 'error: Cannot find "missing"\n');
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("A taken port is told in one line before anything is loaded", async () => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = taken.addr as Deno.NetAddr;
  await using running = new Running(["fake", `--port=${port}`, "--host=127.0.0.1"]);
  assertEquals(await running.code(), 1);
  assertEquals(
    running.text,
    `error: Cannot listen on port ${port} as another program does: choose another with --port\n`,
  );
});

Deno.test("What cannot be done is one line and an exit code", async () => {
  for (
    const [args, code, line] of [
      [[], 1, "error: Name a MODEL to serve: a GGUF file, a model's folder, or a hub id\n"],
      [["m", "--prot", "1"], 2, "error: Unknown flag --prot: did you mean --port?\n"],
      [
        ["m", "--enable-auto-tool-choice", "--tool-call-parser=hermes"],
        2,
        "error: Cannot use --enable-auto-tool-choice: tool calling is not supported yet\n",
      ],
      [
        ["m", "--config", "no.yaml"],
        2,
        'error: Cannot use --config "no.yaml": there is no such file\n',
      ],
      [["missing", "--port=0"], 1, 'error: Cannot find "missing"\n'],
      [
        ["m", "--chat-template", "no/such.jinja"],
        2,
        'error: Cannot use --chat-template "no/such.jinja": there is no such file\n',
      ],
    ] as const
  ) {
    await using running = new Running(args);
    assertEquals(await running.code(), code);
    assertEquals(running.text, line);
  }
});

Deno.test("A permission that is missing is told in one line", async () => {
  const serve = new URL("../../serve.ts", import.meta.url).pathname;
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", "--no-prompt", serve, "model"],
    env: { NO_COLOR: "1" },
  }).output();
  const text = new TextDecoder().decode(stderr);
  assertEquals([code, text.split("\n").length], [1, 2], text);
  assertStringIncludes(text, 'error: Requires env access to "VLLM_API_KEY"');
});

const FAST = ["--port=0", "--host=127.0.0.1", "--unsafe-fast"];

Deno.test("--unsafe-fast runs the command once more with the flags of V8, and SIGTERM ends both", async () => {
  await using running = new Running(["fake", ...FAST]);
  const url = await running.url();
  assertEquals(running.text.split("memory accesses are not checked").length, 2, "said once");
  assertEquals(running.text.split("is ready at").length, 2, "one server");
  const answer = await (await ask(url)).text();
  assertStringIncludes(answer, "data: [DONE]");
  running.process.kill("SIGTERM");
  assertEquals(await running.code(), 0);
  assertStringIncludes(running.text, "closed");
  assertEquals(await ask(url).then(() => "answered", () => "refused"), "refused");
});

Deno.test("--unsafe-fast hands on one Ctrl-C as one, and the exit code of what it started", async () => {
  const env = { FAKE_TOKEN_MS: "60" };
  await using running = new Running(["fake", ...FAST], env);
  const answer = ask(await running.url()).then((response) => response.text());
  await running.said("a token begins");
  running.process.kill("SIGINT");
  assertStringIncludes(await answer, "data: [DONE]");
  assertEquals(await running.code(), 0);

  await using failing = new Running(["missing", ...FAST]);
  assertEquals(await failing.code(), 1);
  assertStringIncludes(failing.text, 'Cannot find "missing"');
});

Deno.test("The process that --unsafe-fast starts has the flags, the permissions and the words", () => {
  const args = restartArgs(["model", "--unsafe-fast"], ["net", "read"]);
  assertEquals(args, [
    "run",
    "--v8-flags=--experimental-wasm-revectorize,--no-wasm-bounds-checks",
    "--allow-net",
    "--allow-read",
    Deno.mainModule,
    "model",
    "--unsafe-fast",
  ]);
});
