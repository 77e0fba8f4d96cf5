/** The table of flags: what is read, what is refused, and that the help is complete. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { flagOfOption, FLAGS, readCommand } from "../../serve/flags.ts";
import { helpText } from "../../serve/help.ts";
import { nearest } from "../../serve/nearest.ts";
import { toSettings } from "../../serve/settings.ts";

function values(...args: string[]): Readonly<Record<string, unknown>> {
  const command = readCommand(args);
  if (command.kind !== "serve") throw new Error(JSON.stringify(command));
  return command.values;
}

function mistake(...args: string[]): string {
  const command = readCommand(args);
  if (command.kind !== "wrong") throw new Error(`Expected a mistake: ${JSON.stringify(command)}`);
  assert(!command.message.includes("\n"), "one line");
  return command.message;
}

Deno.test("Every flag of the table is read and is in the help", () => {
  const samples: Record<string, [string, unknown]> = {
    "revision": ["v1", "v1"],
    "chat-template": ["t.jinja", "t.jinja"],
    "generation-config": ["vllm", "vllm"],
    "max-model-len": ["2048", 2048],
    "task": ["embed", "embed"],
    "host": ["::1", "::1"],
    "port": ["0", 0],
    "served-model-name": ["name", ["name"]],
    "api-key": ["key", ["key"]],
    "allowed-origins": ['["https://a"]', ["https://a"]],
    "shutdown-timeout": ["1.5", 1.5],
    "max-logprobs": ["-1", -1],
    "max-waiting-requests": ["0", 0],
    "kv-cache-bytes": ["1GiB", 2 ** 30],
    "dtype": ["q8", "q8"],
    "activation-dtype": ["int8", "int8"],
    "kv-cache-dtype": ["float32", "float32"],
    "max-batch-size": ["8", 8],
    "max-num-batched-tokens": ["256", 256],
    "threads": ["0", 0],
  };
  const help = helpText();
  for (const flag of FLAGS) {
    assertStringIncludes(help, `--${flag.name}`);
    assertStringIncludes(help.replace(/\s+/g, " "), flag.help);
    if (flag.value === undefined) continue;
    const [text, value] = samples[flag.name] ?? [];
    assert(text !== undefined, `a sample of --${flag.name}`);
    assertEquals(values("m", `--${flag.name}`, text), { [flag.name]: value });
    assertEquals(values(`--${flag.name}=${text}`, "m"), { [flag.name]: value });
  }
});

Deno.test("Switches are read with and without no-", () => {
  assertEquals(values("m"), {});
  assertEquals(values("m", "--disable-log-stats"), { "disable-log-stats": true });
  assertEquals(values("m", "--enable-prefix-caching"), { "enable-prefix-caching": true });
  assertEquals(values("m", "--no-enable-prefix-caching"), { "enable-prefix-caching": false });
  assertEquals(values("--enable-prefix-caching=false", "m"), { "enable-prefix-caching": false });
  assertEquals(values("--trust-request-chat-template", "m"), {
    "trust-request-chat-template": true,
  });
});

Deno.test("The model may stand anywhere, and a leading serve is skipped", () => {
  for (
    const args of [["m", "--port", "1"], ["--port", "1", "m"], ["serve", "m"], ["--", "m"]]
  ) {
    const command = readCommand(args);
    assertEquals(command.kind === "serve" && command.model, "m");
  }
  const named = readCommand(["serve", "serve"]);
  assertEquals(named.kind === "serve" && named.model, "serve");
  const none = readCommand(["--port=1"]);
  assertEquals(none.kind === "serve" && none.model, undefined);
});

Deno.test("Flags that may come several times collect, also as words after one flag", () => {
  const expected = { "served-model-name": ["a", "b"] };
  assertEquals(values("m", "--served-model-name", "a", "--served-model-name=b"), expected);
  assertEquals(values("m", "--served-model-name", "a", "b"), expected);
  assertEquals(values("--served-model-name", "a", "m")["served-model-name"], ["a"]);
});

Deno.test("Other spellings are understood: underscores, --max-num-seqs, -h", () => {
  assertEquals(values("m", "--max_model_len", "5"), { "max-model-len": 5 });
  assertEquals(values("m", "--max-num-seqs=5"), { "max-batch-size": 5 });
  assertEquals(readCommand(["-h"]).kind, "help");
  assertEquals(readCommand(["m", "--help"]).kind, "help");
  assertEquals(readCommand(["--version"]).kind, "version");
});

Deno.test("Sizes are read in bytes and in powers of 1024 and 1000", () => {
  for (
    const [text, size] of [
      ["536870912", 536870912],
      ["512M", 2 ** 29],
      ["512MiB", 2 ** 29],
      ["1GiB", 2 ** 30],
      ["1g", 2 ** 30],
      ["1.5G", 1.5 * 2 ** 30],
      ["2MB", 2_000_000],
      ["64KB", 64_000],
      ["100B", 100],
    ] as const
  ) assertEquals(values("m", "--kv-cache-bytes", text)["kv-cache-bytes"], size);
});

Deno.test("A wrong flag is named together with the right one", () => {
  for (
    const [args, message] of [
      [["m", "--prot", "1"], "Unknown flag --prot: did you mean --port?"],
      [["m", "--kv-cache-byte=1"], "Unknown flag --kv-cache-byte: did you mean --kv-cache-bytes?"],
      [
        ["m", "--no-prefix-caching"],
        "Unknown flag --no-prefix-caching: did you mean --no-enable-prefix-caching?",
      ],
      [["m", "--xyzzyqwerty"], "Unknown flag --xyzzyqwerty: --help lists the flags"],
      [["m", "-p", "80"], "Unknown flag -p: --help lists the flags"],
      [["m", "--no-port"], "Unknown flag --no-port: did you mean --port?"],
      [["m", "n"], 'Unexpected word "n": one MODEL is enough, flags begin with --'],
      [["m", "--port"], "Cannot use --port without a value: it takes NUMBER"],
      [["m", "--port="], "Cannot use --port without a value: it takes NUMBER"],
      [["m", "--port", "http"], 'Cannot use --port "http": it must be an integer from 0 to 65535'],
      [
        ["m", "--port", "65536"],
        'Cannot use --port "65536": it must be an integer from 0 to 65535',
      ],
      [["m", "--port", "1.5"], 'Cannot use --port "1.5": it must be an integer from 0 to 65535'],
      [["m", "--threads", "-1"], 'Cannot use --threads "-1": it must be an integer of at least 0'],
      [
        ["m", "--kv-cache-dtype", "fp8"],
        'Cannot use --kv-cache-dtype "fp8": it must be bfloat16 or float32 or auto',
      ],
      [
        ["m", "--kv-cache-bytes", "lots"],
        'Cannot use --kv-cache-bytes "lots": it must be a size, such as 536870912, 512M or 1GiB',
      ],
      [
        ["m", "--kv-cache-bytes", "0"],
        'Cannot use --kv-cache-bytes "0": it must be a size, such as 536870912, 512M or 1GiB',
      ],
      [
        ["m", "--shutdown-timeout", "soon"],
        'Cannot use --shutdown-timeout "soon": it must be a number of seconds, such as 30',
      ],
      [
        ["m", "--allowed-origins", "[1]"],
        'Cannot use --allowed-origins "[1]": it must be a JSON list of strings, such as ["https://example.org"]',
      ],
      [
        ["m", "--enable-prefix-caching=maybe"],
        'Cannot use --enable-prefix-caching "maybe": it is a switch and takes no value',
      ],
    ] as const
  ) assertEquals(mistake(...args), message);
});

Deno.test("The nearest word is only offered when it is near", () => {
  assertEquals(nearest("--hosst", ["--host", "--port"]), "--host");
  assertEquals(nearest("--banana", ["--host", "--port"]), undefined);
});

Deno.test("Flag values become options of the model and of the handler", async () => {
  const settings = await toSettings(values(
    "m",
    ...["--kv-cache-bytes=1MiB", "--kv-cache-dtype=auto", "--generation-config=vllm"],
    ...["--no-enable-prefix-caching", "--max-num-batched-tokens=64", "--max-model-len=100"],
    ...[
      "--chat-template={{ messages }}",
      "--api-key",
      "a",
      "b",
      "--allowed-origins=https://a,https://b",
    ],
  ));
  assertEquals(settings.llm, {
    kvCacheBytes: 2 ** 20,
    kvCacheDtype: "bfloat16",
    generationConfig: "none",
    enablePrefixCaching: false,
    maxTokensPerStep: 64,
    maxModelLength: 100,
    chatTemplate: "{{ messages }}",
  });
  assertEquals(settings.requests.apiKeys, ["a", "b"]);
  assertEquals(settings.requests.allowedOrigins, ["https://a", "https://b"]);
  const plain = await toSettings({});
  assertEquals(plain.llm, {});
  assertEquals([plain.hostname, plain.port, plain.shutdownTimeoutSeconds], ["0.0.0.0", 8000, 30]);
  assertEquals(plain.logsStatistics, true);
  assertEquals((await toSettings({ "disable-log-stats": true })).logsStatistics, false);
});

Deno.test("Development routes are opened by a flag", async () => {
  assertEquals((await toSettings(values("m"))).requests.devMode, false);
  assertEquals((await toSettings(values("m", "--dev-mode"))).requests.devMode, true);
});

Deno.test("The task is an option of the model, and a wrong one is told with the right ones", async () => {
  assertEquals((await toSettings(values("m", "--task", "embed"))).llm.task, "embed");
  assertEquals(
    mistake("m", "--task", "pool"),
    'Cannot use --task "pool": it must be auto or generate or embed or score or classify',
  );
});

Deno.test("A chat template is read from a file", async () => {
  const file = await Deno.makeTempFile();
  try {
    await Deno.writeTextFile(file, "{{ from_file }}");
    const { llm } = await toSettings({ "chat-template": file });
    assertEquals(llm.chatTemplate, "{{ from_file }}");
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("An option that the model refuses is found back as its flag", () => {
  assertEquals(flagOfOption("maxTokensPerStep")?.name, "max-num-batched-tokens");
  assertEquals(flagOfOption("host"), undefined);
});
