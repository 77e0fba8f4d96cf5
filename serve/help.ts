/** The text of `--help`, made from the table of flags. */

import { type Flag, GROUPS, isSwitch } from "./flag.ts";
import { FLAGS } from "./flag_table.ts";

const WIDTH = 96;
const INDENT = 6;

/** Usage, then every flag in its group, then examples. */
export function helpText(): string {
  const blocks = GROUPS.map((group) => {
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
    "  A switch is turned off by --no- before its name.\n",
    ...blocks.map((block) => `${block}\n`),
    "Examples:",
    "  serve ./SmolLM2-135M-Instruct.Q4_1.gguf",
    "  serve Qwen/Qwen3-0.6B --port 9000 --served-model-name qwen --kv-cache-bytes 1GiB",
    "",
  ].join("\n");
}

/** How a flag is written: its short names, its name, its value. */
export function flagUsage(flag: Flag): string {
  const { name, aliases = [], standard, value } = flag;
  const short = aliases.filter((alias) => !alias.startsWith("--"));
  const long = aliases.filter((alias) => alias.startsWith("--"));
  const isOn = isSwitch(flag) && standard === "on";
  const names = [...short, `--${name}`, ...long, ...(isOn ? [`--no-${name}`] : [])];
  return `${names.join(", ")}${value === undefined ? "" : ` ${value}`}`;
}

function flagLines(flag: Flag): string[] {
  const several = flag.several ? " (may be repeated)" : "";
  const standard = flag.standard === undefined ? "" : ` [default: ${flag.standard}]`;
  return [`  ${flagUsage(flag)}`, ...wrapped(`${flag.help}${several}${standard}`)];
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
