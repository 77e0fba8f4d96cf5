/** `--config`: what a file may say, who wins, and how its mistakes are told. */

import { assert, assertEquals } from "@std/assert";
import { type Command, readCommand } from "../../serve/flags.ts";

/** The command with a file `c.yaml`. */
function command(yaml: string, ...args: string[]): Command {
  return readCommand([...args, "--config", "c.yaml"], (path) => {
    if (path === "c.yaml") return yaml;
    throw new Deno.errors.NotFound(path);
  });
}

function values(yaml: string, ...args: string[]): Readonly<Record<string, unknown>> {
  const read = command(yaml, ...args);
  if (read.kind !== "serve") throw new Error(JSON.stringify(read));
  const { config: _, ...values } = read.values;
  return values;
}

function mistake(yaml: string): string {
  const read = command(yaml, "m");
  if (read.kind !== "wrong") throw new Error(`Expected a mistake: ${JSON.stringify(read)}`);
  assert(!read.message.includes("\n"), "one line");
  return read.message;
}

Deno.test("A file gives flags by either spelling and by other names, with numbers, lists and maps", () => {
  assertEquals(
    values(
      `
# as vLLM writes it
port: 0
max_model_len: 2048
max-num-seqs: 8
tp: 4
served-model-name: [a, "b"]
api-key: 0123
prefill-buckets:
  - 1,512
allowed-origins: ["https://a"]
default-chat-template-kwargs: {enable_thinking: false}
override_generation_config:
  top_p: 0.5
chat-template: |
  {{ messages }}
  end
`,
      "m",
    ),
    {
      "port": 0,
      "max-model-len": 2048,
      "max-batch-size": 8,
      "tensor-parallel-size": 4,
      "served-model-name": ["a", "b"],
      "api-key": ["0123"],
      "prefill-buckets": [{ batchSize: 1, attentionSize: 512 }],
      "allowed-origins": ["https://a"],
      "default-chat-template-kwargs": { "enable_thinking": false },
      "override-generation-config": { topP: 0.5 },
      "chat-template": "{{ messages }}\nend\n",
    },
  );
});

Deno.test("Switches are true or false in a file", () => {
  assertEquals(values("strict-model: true\nenable-prefix-caching: false\n", "m"), {
    "strict-model": true,
    "enable-prefix-caching": false,
  });
});

Deno.test("The command line wins over the file, flag by flag and with MODEL", () => {
  const yaml = "model: from-file\nport: 1\nserved-model-name: [a, b]\n";
  const both = command(yaml, "m", "--port=2", "--served-model-name=c");
  assert(both.kind === "serve");
  assertEquals(both.model, "m");
  assertEquals([both.values["port"], both.values["served-model-name"]], [2, ["c"]]);
  const file = command(yaml);
  assertEquals(file.kind === "serve" && file.model, "from-file");
  const tagged = command("model_tag: tagged\n");
  assertEquals(tagged.kind === "serve" && tagged.model, "tagged");
});

Deno.test("An empty file says nothing", () => {
  for (const yaml of ["", "# nothing\n", "---\n"]) assertEquals(values(yaml, "m"), {});
});

Deno.test("A mistake in a file is told with its line, and what would be right", () => {
  for (
    const [yaml, message] of [
      ["port: 1\nprot: 2\n", 'Unknown flag prot in "c.yaml" line 2: did you mean port?'],
      ["xyzzyqwerty: 2\n", 'Unknown flag xyzzyqwerty in "c.yaml" line 1: --help lists the flags'],
      ["config: d.yaml\n", 'Unknown flag config in "c.yaml" line 1: --help lists the flags'],
      [
        "\nport: http\n",
        'Cannot use port "http" in "c.yaml" line 2: it must be an integer from 0 to 65535',
      ],
      ["port: [1, 2]\n", 'Cannot use port in "c.yaml" line 1: it takes NUMBER'],
      ["port:\n", 'Cannot use port in "c.yaml" line 1: it takes NUMBER'],
      [
        "strict-model: maybe\n",
        'Cannot use strict-model "maybe" in "c.yaml" line 1: it takes true or false',
      ],
      ["strict-model: [1]\n", 'Cannot use strict-model in "c.yaml" line 1: it takes true or false'],
      ["api-key: [{a: 1}]\n", 'Cannot use api-key in "c.yaml" line 1: its list holds no words'],
      [
        "reasoning-parser: qwen3\n",
        'Cannot use reasoning-parser in "c.yaml" line 1: reasoning is not supported yet',
      ],
      ["model: [a]\n", 'Cannot use model in "c.yaml" line 1: it takes the name of a model'],
      ["port: 1\nport: 2\n", 'Cannot read "c.yaml" line 2: Map keys must be unique'],
      [
        "allowed-origins: {a: 1}\n",
        'Cannot use allowed-origins "{"a":1}" in "c.yaml" line 1: it must be a JSON list of ' +
        'strings, such as ["https://example.org"]',
      ],
      ["- port\n", 'Cannot use --config "c.yaml": it must hold lines such as "port: 8000"'],
    ] as const
  ) assertEquals(mistake(yaml), message);
  assertEquals(mistake("a: 1\nb: [x\nc: 2\n").slice(0, 27), 'Cannot read "c.yaml" line 3');
});

Deno.test("A file that is not there is told", () => {
  const read = readCommand(["m", "--config", "no.yaml"]);
  assertEquals(read, {
    kind: "wrong",
    message: 'Cannot use --config "no.yaml": there is no such file',
  });
});
