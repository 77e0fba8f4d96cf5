/** The table of flags: what is read, what is refused, and that the help is complete. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { isRefused, isSwitch } from "../../serve/flag.ts";
import { flagOfOption, FLAGS } from "../../serve/flag_table.ts";
import { readCommand } from "../../serve/flags.ts";
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

/** A text for each flag that takes a value, and what it is read as. */
const SAMPLES: Readonly<Record<string, readonly [text: string, value: unknown]>> = {
  "revision": ["v1", "v1"],
  "task": ["embed", "embed"],
  "max-model-len": ["2048", 2048],
  "tokenizer-mode": ["slow", "slow"],
  "chat-template": ["t.jinja", "t.jinja"],
  "chat-template-content-format": ["openai", "openai"],
  "generation-config": ["vllm", "vllm"],
  "override-generation-config": ['{"top_p": 0.5}', { topP: 0.5 }],
  "host": ["::1", "::1"],
  "port": ["0", 0],
  "uds": ["a.sock", "a.sock"],
  "served-model-name": ["name", ["name"]],
  "api-key": ["key", ["key"]],
  "root-path": ["/llm/", "/llm"],
  "shutdown-timeout": ["1.5", 1.5],
  "ssl-certfile": ["c.pem", "c.pem"],
  "ssl-keyfile": ["k.pem", "k.pem"],
  "allowed-origins": ['["https://a"]', ["https://a"]],
  "allowed-methods": ["GET, POST", ["GET", "POST"]],
  "allowed-headers": ['["authorization"]', ["authorization"]],
  "response-role": ["model", "model"],
  "default-chat-template-kwargs": ['{"a": [1]}', { a: [1] }],
  "max-logprobs": ["-1", -1],
  "stream-interval": ["5", 5],
  "fingerprint-mode": ["hash", "hash"],
  "max-waiting-requests": ["1", 1],
  "log-level": ["warning", "warning"],
  "disable-access-log-for-endpoints": ["/health,/metrics", ["/health", "/metrics"]],
  "max-log-len": ["0", 0],
  "kv-cache-bytes": ["1GiB", 2 ** 30],
  "dtype": ["q8", "q8"],
  "activation-dtype": ["int8", "int8"],
  "expected-average-length": ["2048", 2048],
  "kv-cache-dtype": ["float32", "float32"],
  "max-batch-size": ["8", 8],
  "max-num-batched-tokens": ["256", 256],
  "prefill-buckets": ["1,512", [{ batchSize: 1, attentionSize: 512 }]],
  "decode-buckets": ["4,1024", [{ batchSize: 4, attentionSize: 1024 }]],
  "threads": ["0", 0],
  "tensor-parallel-size": ["16", 16],
  "pipeline-parallel-size": ["2", 2],
  "data-parallel-size": ["2", 2],
  "data-parallel-routing-policy": ["round-robin", "round-robin"],
  "data-parallel-scoring-profile": ["load", "load"],
  "devices": ["npu:0:0-3,npu:1", ["npu:0:0-3", "npu:1"]],
  "device-mesh": ["npu:0", "npu:0"],
  "logprobs-mode": ["raw_logprobs", "raw_logprobs"],
  "ssl-cert-reqs": ["0", 0],
  "h11-max-incomplete-event-size": ["4194304", 4194304],
  "h11-max-header-count": ["256", 256],
  "max-prompt-len": ["1024", 1024],
  "min-batch-size": ["1", 1],
  "scheduler-kind": ["offline", "offline"],
  "experimental-scheduling-loop-type": ["step_based", "step_based"],
  "prefill-chunk-size": ["256", 256],
  "npu-queue-limit": ["1", 1],
  "max-processing-samples": ["65536", 65536],
  "spare-blocks-ratio": ["0.5", 0.5],
  "estimation-time-limit-ms": ["5", 5],
  "batch-scheduling-budget-ms": ["1", 1],
  "prefix-cache-lookahead-requests": ["2", 2],
  "speculative-model": ["m", "m"],
  "num-speculative-tokens": ["3", 3],
  "speculative-draft-tensor-parallel-size": ["4", 4],
  "speculative-draft-pipeline-parallel-size": ["1", 1],
  "speculative-draft-data-parallel-size": ["1", 1],
  "max-io-memory-mb": ["2048", 2048],
  "seed": ["-1", -1],
  "gpu-memory-utilization": ["0.9", 0.9],
  "block-size": ["16", 16],
  "swap-space": ["4", 4],
  "fxb": ["m.fxb", "m.fxb"],
  "npu-io-cpus": ["0-3", "0-3"],
  "experimental-speculative-config": ['{"method":"mtp"}', { method: "mtp" }],
  "experimental-kv-offload-host-memory-gb": ["8", 8],
  "experimental-kv-offload-host-memory-ratio": ["0.5", 0.5],
  "experimental-kv-offload-write-through-threshold": ["2", 2],
  "experimental-kv-offload-staging-memory-gb": ["24", 24],
  "image-limit-per-prompt": ["1", 1],
  "video-limit-per-prompt": ["0", 0],
  "allowed-local-media-path": ["/media", "/media"],
  "allowed-media-domains": ['["a.example"]', ["a.example"]],
  "media-io-kwargs": ["{}", {}],
  "mm-processor-kwargs": ["{}", {}],
  "mm-processor-cache-gb": ["4.0", 4],
};

Deno.test("Every flag of the table has a group, no name twice, and is in the help in at most 100 columns", () => {
  const names = FLAGS.flatMap(({ name, aliases = [] }) => [`--${name}`, ...aliases]);
  assertEquals(new Set(names).size, names.length);
  assertEquals(names.filter((name) => !/^-(-[a-z0-9]+)+$|^-[a-z]+(-[a-z]+)*$/.test(name)), []);
  const help = helpText();
  assertEquals(help.split("\n").filter((line) => line.length > 100), []);
  for (const flag of FLAGS) {
    for (const name of [`--${flag.name}`, ...flag.aliases ?? []]) assertStringIncludes(help, name);
    assertStringIncludes(help.replace(/\s+/g, " "), flag.help);
  }
});

Deno.test("Every flag with a value is read, before and after MODEL, under each of its names", () => {
  const accepted = FLAGS.filter((flag) => !isRefused(flag) && flag.name !== "config");
  for (const flag of accepted.filter((flag) => !isSwitch(flag))) {
    const [text, value] = SAMPLES[flag.name] ?? [];
    assert(text !== undefined, `a sample of --${flag.name}`);
    for (const name of [`--${flag.name}`, ...flag.aliases ?? []]) {
      assertEquals(values("m", name, text), { [flag.name]: value });
      assertEquals(values(`${name}=${text}`, "m"), { [flag.name]: value });
    }
  }
  for (const { name, aliases = [] } of accepted.filter(isSwitch)) {
    if (name === "help" || name === "version") continue;
    for (const spelled of [name, ...aliases.map((alias) => alias.slice(2))]) {
      assertEquals(values(`--${spelled}`, "m"), { [name]: true });
      assertEquals(values("m", `--no-${spelled}`), { [name]: false });
      assertEquals(values("m", `--${spelled}=false`), { [name]: false });
    }
  }
});

Deno.test("Flags of later releases are refused by name, and the help says so", () => {
  const refused = FLAGS.filter(isRefused);
  for (const name of ["enable-auto-tool-choice", "tool-call-parser", "reasoning-parser"]) {
    assert(refused.some((flag) => flag.name === name), name);
  }
  for (const flag of refused) {
    const args = isSwitch(flag) ? [`--${flag.name}`] : [`--${flag.name}`, "x"];
    assertEquals(
      mistake("m", ...args),
      `Cannot use --${flag.name}: ${flag.help} is not supported yet`,
    );
  }
  assertStringIncludes(helpText(), "Not supported yet:");
});

Deno.test("Flags of Furiosa-LLM have its single-dashed names", () => {
  assertEquals(
    values("m", "-tp", "4", "-pp=1", "-dp", "2", "-pb", "1,512", "4,128", "-draft-tp", "1"),
    {
      "tensor-parallel-size": 4,
      "pipeline-parallel-size": 1,
      "data-parallel-size": 2,
      "prefill-buckets": [
        { batchSize: 1, attentionSize: 512 },
        { batchSize: 4, attentionSize: 128 },
      ],
      "speculative-draft-tensor-parallel-size": 1,
    },
  );
  assertEquals(mistake("m", "-tpx", "4"), "Unknown flag -tpx: --help lists the flags");
  assertEquals(
    mistake("m", "-tp"),
    "Cannot use --tensor-parallel-size without a value: it takes COUNT",
  );
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
      [["--model", "m"], "Unknown flag --model: MODEL is written without a flag before it"],
      [["-m", "m"], "Unknown flag -m: MODEL is written without a flag before it"],
      [["m", "-p", "80"], "Unknown flag -p: --help lists the flags"],
      [["m", "--no-port"], "Unknown flag --no-port: did you mean --port?"],
      [["m", "n"], 'Unexpected word "n": one MODEL is enough, flags begin with --'],
      [["m", "--port"], "Cannot use --port without a value: it takes NUMBER"],
      [["m", "--api-key"], "Cannot use --api-key without a value: it takes KEY"],
      [["m", "--api-key", "--port", "1"], "Cannot use --api-key without a value: it takes KEY"],
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
        'Cannot use --kv-cache-dtype "fp8": it must be bfloat16, float32 or auto',
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
        ["m", "-tp", "3"],
        'Cannot use --tensor-parallel-size "3": it must be 1, 2, 4 or a multiple of 8',
      ],
      [
        ["m", "-db", "4x1024"],
        'Cannot use --decode-buckets "4x1024": buckets should be in the format of batch_size,sequence_length, such as 4,1024',
      ],
      [
        ["m", "--devices", "npu0"],
        'Cannot use --devices "npu0": it must be like npu:0, npu:0:3, npu:0:4-7 or npu:0,npu:1',
      ],
      [
        ["m", "--devices", "npu:0:2-5"],
        'Cannot use --devices "npu:0:2-5": processing elements 2-5 are not 1, 2, 4 or 8 that begin at a multiple of it',
      ],
      [
        ["m", "--devices", "npu:0:8"],
        'Cannot use --devices "npu:0:8": a card has the processing elements 0 to 7',
      ],
      [
        ["m", "--devices", "npu:0,cpu"],
        'Cannot use --devices "npu:0,cpu": its devices must be of one kind',
      ],
      [
        ["m", "--root-path", "llm"],
        'Cannot use --root-path "llm": it must be a path that begins with a slash, such as /llm',
      ],
      [
        ["m", "--default-chat-template-kwargs", "[1]"],
        'Cannot use --default-chat-template-kwargs "[1]": it must be a JSON object, such as {"enable_thinking": false}',
      ],
      [
        ["m", "--override-generation-config", '{"top_q": 1}'],
        'Cannot use --override-generation-config "{"top_q": 1}": it has an unknown field "top_q", did you mean "top_p"?',
      ],
      [
        ["m", "--log-level", "loud"],
        'Cannot use --log-level "loud": it must be trace, debug, info, warning, error or critical',
      ],
      [
        ["m", "--spare-blocks-ratio", "2"],
        'Cannot use --spare-blocks-ratio "2": it must be a number from 0 to 1',
      ],
      [
        ["m", "--enable-prefix-caching=maybe"],
        'Cannot use --enable-prefix-caching "maybe": it is a switch and takes no value',
      ],
    ] as const
  ) assertEquals(mistake(...args), message);
});

Deno.test("What of a known flag is for a later release is said as such", () => {
  for (
    const [args, message] of [
      [
        ["--logprobs-mode=raw_logits"],
        'Cannot use --logprobs-mode "raw_logits": it is not supported yet, give raw_logprobs',
      ],
      [
        ["--logprobs-mode=none"],
        'Cannot use --logprobs-mode "none": it must be raw_logprobs',
      ],
      [
        ["--fingerprint-mode=custom"],
        'Cannot use --fingerprint-mode "custom": it is not supported yet, give one of full, hash, none',
      ],
      [
        ["--ssl-cert-reqs=2"],
        'Cannot use --ssl-cert-reqs "2": certificates of clients are not supported yet, give 0',
      ],
      [
        ["--ssl-ca-certs", "ca.pem"],
        "Cannot use --ssl-ca-certs: to ask clients for certificates is not supported yet",
      ],
    ] as const
  ) assertEquals(mistake("m", ...args), message);
});

Deno.test("The average length is the flag's, else that of Furiosa-LLM's variable", async () => {
  const length = async (args: readonly string[], text: string) => {
    const variables = environment({ EXPECTED_AVERAGE_SEQ_LENGTH: text });
    return (await toSettings(values("m", ...args), variables)).llm.expectedAverageLength;
  };
  assertEquals(await length([], ""), undefined);
  assertEquals(await length([], "2048"), 2048);
  assertEquals(await length(["--expected-average-length=512"], "2048"), 512);
  const words = 'Cannot use EXPECTED_AVERAGE_SEQ_LENGTH "long" of the environment: it must be';
  await assertRejects(() => length([], "long"), RangeError, words);
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
    generationConfig: "vllm",
    enablePrefixCaching: false,
    maxTokensPerStep: 64,
    maxModelLength: 100,
    chatTemplate: "{{ messages }}",
  });
  assertEquals(settings.requests.apiKeys, ["a", "b"]);
  assertEquals(settings.requests.allowedOrigins, ["https://a", "https://b"]);
  const more = await toSettings(
    values("m", "-pb", "1,16", "4,64", "--generation-config=./mine", "--max-concurrency=2"),
  );
  assertEquals(more.llm, {
    prefillBuckets: [
      { batchSize: 1, attentionSize: 16 },
      { batchSize: 4, attentionSize: 64 },
    ],
    generationConfig: "./mine",
    maxBatchSize: 2,
  });
  const plain = await toSettings({});
  assertEquals(plain.llm, {});
  const { listening, shutdownTimeoutSeconds, logs, requests } = plain;
  assertEquals(listening, { kind: "port", hostname: "0.0.0.0", port: 8000, tls: undefined });
  assertEquals(shutdownTimeoutSeconds, 30);
  assertEquals(logs, {
    level: "info",
    access: true,
    accessExcept: [],
    requests: false,
    lengthMax: Infinity,
    payloads: false,
    statistics: true,
  });
  assertEquals([requests.responseRole, requests.rootPath, requests.maxLogprobs], [
    "assistant",
    "",
    20,
  ]);
  assertEquals((await toSettings({ "disable-log-stats": true })).logs.statistics, false);
});

Deno.test("The API document is closed by a flag", async () => {
  const settings = (...args: string[]) => toSettings(values("m", ...args));
  assertEquals((await settings()).requests.apiDocument, true);
  assertEquals((await settings("--disable-fastapi-docs")).requests.apiDocument, false);
});

Deno.test("Development routes are opened by a flag", async () => {
  assertEquals((await toSettings(values("m"))).requests.devMode, false);
  assertEquals((await toSettings(values("m", "--dev-mode"))).requests.devMode, true);
});

Deno.test("The task is an option of the model, and a wrong one is told with the right ones", async () => {
  assertEquals((await toSettings(values("m", "--task", "embed"))).llm.task, "embed");
  assertEquals(
    mistake("m", "--task", "pool"),
    'Cannot use --task "pool": it must be auto, generate, embed, score or classify',
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

/** An environment that holds nothing else. */
function environment(
  variables: Readonly<Record<string, string>>,
): { get(name: string): string | undefined } {
  return { get: (name) => variables[name] };
}

Deno.test("VLLM_API_KEY counts where no key is given, and empty keys are none", async () => {
  const keys = async (args: readonly string[], variables: Record<string, string>) =>
    (await toSettings(values("m", ...args), environment(variables))).requests.apiKeys;
  assertEquals(await keys([], { VLLM_API_KEY: "e" }), ["e"]);
  assertEquals(await keys(["--api-key", "a", "b"], { VLLM_API_KEY: "e" }), ["a", "b"]);
  assertEquals(await keys(["--api-key="], { VLLM_API_KEY: "e" }), []);
  assertEquals(await keys([], {}), []);
});

Deno.test("Development routes are opened by the variables of vLLM and Furiosa-LLM too", async () => {
  for (
    const [variables, opens] of [
      [{ VLLM_SERVER_DEV_MODE: "1" }, true],
      [{ FURIOSA_SERVER_DEV_MODE: "true" }, true],
      [{ FURIOSA_SERVER_DEV_MODE: "0" }, false],
      [{}, false],
    ] as const
  ) assertEquals((await toSettings({}, environment(variables))).requests.devMode, opens);
});

Deno.test("Flags that do nothing here are told apart from the others", async () => {
  const { idleFlags } = await toSettings(
    values("m", "-tp", "8", "--devices=npu:0", "--threads=1", "--enable-metrics"),
  );
  assertEquals(idleFlags, ["--tensor-parallel-size", "--devices", "--enable-metrics"]);
});

Deno.test("Payload lines take the place of access lines", async () => {
  const { logs } = await toSettings(values("m", "--enable-payload-logging"));
  assertEquals([logs.payloads, logs.access], [true, false]);
});

Deno.test("Files that are named must be there, and flags must go together", async () => {
  for (
    const [args, message] of [
      [["--ssl-certfile=no/c.pem"], 'Cannot use --ssl-certfile "no/c.pem": there is no such file'],
      [["--chat-template=/"], 'Cannot use --chat-template "/": it is a folder'],
      [["--ssl-keyfile=k.pem"], "Cannot use --ssl-keyfile without --ssl-certfile: give both"],
      [
        ["--uds=a.sock", "--ssl-certfile=c.pem"],
        "Cannot use --ssl-certfile with --uds: a socket file speaks plain HTTP",
      ],
    ] as const
  ) await assertRejects(() => toSettings(values("m", ...args)), RangeError, message);
});

Deno.test("An option that the model refuses is found back as its flag", () => {
  assertEquals(flagOfOption("maxTokensPerStep")?.name, "max-num-batched-tokens");
  assertEquals(flagOfOption("host"), undefined);
});
