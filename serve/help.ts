/** The text of `--help`, made from the table of flags. */

import { type Flag, FLAGS } from "./flags.ts";

const WIDTH = 96;
const INDENT = 6;

/** Usage, then every flag in its group, then examples. */
export function helpText(): string {
  const groups = [...new Set(FLAGS.map((flag) => flag.group))];
  const blocks = groups.map((group) => {
    const rows = FLAGS.filter((flag) => flag.group === group);
    return [`${group}:`, ...rows.flatMap(flagLines)].join("\n");
  });
  return [
    "Serves a model over HTTP with the OpenAI API.\n",
    "Usage: serve MODEL [flags]\n",
    "  MODEL  a GGUF file, a folder in Hugging Face layout, or the id of a model on the Hugging Face",
    "         hub, which is downloaded into its cache: organization/model, with :Q4_0 or /file.gguf",
    "         behind it where it has several GGUF files. HF_TOKEN, HF_HOME, HF_HUB_OFFLINE and",
    "         HF_ENDPOINT mean what they mean elsewhere.",
    "         In a clone, `deno task serve` without MODEL serves SmolLM2-135M-Instruct from",
    "         RNGD_CACHE (default: rngd-llm in the user's cache folder), and fetches it if need be.\n",
    ...blocks.map((block) => `${block}\n`),
    "Examples:",
    "  serve ./SmolLM2-135M-Instruct.Q4_1.gguf",
    "  serve Qwen/Qwen3-0.6B --port 9000 --served-model-name qwen --kv-cache-bytes 1GiB",
    "",
  ].join("\n");
}

function flagLines(flag: Flag): string[] {
  const names = [
    ...(flag.alias === undefined
      ? []
      : [flag.alias.length === 1 ? `-${flag.alias}` : `--${flag.alias}`]),
    `--${flag.name}`,
    ...(flag.negatable ? [`--no-${flag.name}`] : []),
  ];
  const value = flag.value === undefined ? "" : ` ${flag.value}`;
  const several = flag.several ? " (may be repeated)" : "";
  const standard = flag.standard === undefined ? "" : ` [default: ${flag.standard}]`;
  return [`  ${names.join(", ")}${value}`, ...wrapped(`${flag.help}${several}${standard}`)];
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line !== "" && INDENT + line.length + 1 + word.length > WIDTH) {
      lines.push(line);
      line = word;
    } else {
      line = line === "" ? word : `${line} ${word}`;
    }
  }
  return [...lines, line].map((each) => " ".repeat(INDENT) + each);
}
