/** docs/flags.md, made from the table of flags: `deno task golden` writes it, and a test compares. */

import { type Flag, GROUPS, isIdle, isRefused, isSwitch } from "../serve/flag.ts";
import { FLAGS } from "../serve/flag_table.ts";
import { flagUsage } from "../serve/help.ts";

const INTRODUCTION = `# Flags of the command

<!-- Made from serve/flag_table.ts: change it there, then run \`deno task golden\`. -->

\`\`\`sh
deno run -A serve.ts MODEL [flags]
\`\`\`

Installed under the name that scripts for Furiosa-LLM use, it takes their command lines:

\`\`\`sh
deno install --global --allow-all --config deno.json --name furiosa-llm serve.ts
furiosa-llm serve Qwen/Qwen3-0.6B --port 8000 --api-key secret
\`\`\`

- Both are said in a clone. Once the package is on a registry, \`jsr:@rngd/llm/serve\` stands in place
  of \`serve.ts\`, and \`--config\` is not needed.
- A leading word \`serve\` is skipped. MODEL may stand anywhere, but before the words of a flag that
  takes several.
- \`--max_model_len 5\`, \`--max-model-len=5\` and \`--max-model-len 5\` are the same. The last one of two
  counts; of a flag that may be repeated, all do: \`--api-key a b --api-key c\`.
- A switch is turned off by \`--no-\` before its name.
- A wrong flag or value ends the command with exit code 2 and one line that says what would be
  right; what cannot be done, such as a taken port, with exit code 1. Both are told before the model
  loads, but for what only the model's files can tell.

## A file of flags

\`--config FILE\` reads flags from YAML. Keys are the names without dashes, \`-\` and \`_\` are the same,
and JSON may be written as YAML. \`model\` is MODEL. What the command line says wins.

\`\`\`yaml
model: Qwen/Qwen3-0.6B
port: 9000
served-model-name: [qwen, qwen-small]
enable-prefix-caching: false
default-chat-template-kwargs:
  enable_thinking: false
\`\`\`

## Environment

`;

const VARIABLES: readonly (readonly string[])[] = [
  ["Variable", "Meaning"],
  ["`VLLM_API_KEY`", "a key, where `--api-key` gives none"],
  [
    "`EXPECTED_AVERAGE_SEQ_LENGTH`",
    "a length in tokens, where `--expected-average-length` gives none",
  ],
  [
    "`VLLM_SERVER_DEV_MODE`, `FURIOSA_SERVER_DEV_MODE`",
    "1: as `--dev-mode`; of the second also true",
  ],
  [
    "`HF_TOKEN`, `HF_TOKEN_PATH`, `HF_HOME`, `HF_HUB_CACHE`, `HF_HUB_OFFLINE`, `HF_ENDPOINT`",
    "where models come from and are kept, as for the tools of Hugging Face; `XDG_CACHE_HOME`, " +
    "`HUGGINGFACE_HUB_CACHE`, `HUGGING_FACE_HUB_TOKEN` and `TRANSFORMERS_OFFLINE` too",
  ],
  ["`OTEL_DENO`, `OTEL_SDK_DISABLED`, `OTEL_…`", "where spans of requests go: see tracing.md"],
  ["`NO_COLOR`", "no colours in the terminal"],
];

const NOTES: Readonly<Partial<Record<typeof GROUPS[number], string>>> = {
  "Logs": "All lines go to standard error, but those of `--enable-payload-logging`.",
  "Accepted, without effect here":
    "Values are checked, and one line at the start names the flags that do nothing here.",
  "Not supported yet":
    "These end the command: to ignore them would change what clients are answered, or let in whom they\n" +
    "should keep out.",
};

/** The whole page. */
export function flagsPage(): string {
  return [`${INTRODUCTION}${table(VARIABLES)}`, ...GROUPS.map(section)].join("\n");
}

function section(group: typeof GROUPS[number]): string {
  const flags = FLAGS.filter((flag) => flag.group === group);
  const note = NOTES[group];
  const [first] = flags;
  const header = first === undefined ? [] : headerOf(first);
  const rows = flags.map((flag) => rowOf(flag).slice(0, header.length));
  const text = note === undefined ? "" : `${note}\n\n`;
  return `## ${group}\n\n${text}${table([header, ...rows])}`;
}

function headerOf(flag: Flag): string[] {
  if (isIdle(flag)) return ["Flag", "Why"];
  return isRefused(flag) ? ["Flag", "Belongs to"] : ["Flag", "What it does", "Default"];
}

function rowOf(flag: Flag): string[] {
  const usage = flagUsage(flag).replaceAll("|", "\\|");
  const { standard } = flag;
  const isPlain = standard === undefined || !/^[\w.[\]"*]+$/.test(standard);
  return [
    `\`${usage}\``,
    flag.several ? `${flag.help}; may be repeated` : flag.help,
    isPlain ? standard ?? (isSwitch(flag) ? "off" : "none") : `\`${standard}\``,
  ];
}

/** A Markdown table as the formatter writes it: all cells of a column as wide as the widest. */
function table(rows: readonly (readonly string[])[]): string {
  const [header = []] = rows;
  const widths = header.map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? "").length))
  );
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join(" | ")} |\n`;
  const [head = "", ...body] = rows.map(line);
  return head + line(widths.map((width) => "-".repeat(width))) + body.join("");
}
