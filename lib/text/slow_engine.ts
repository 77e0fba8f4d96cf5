/**
 * The tokenizers of `@huggingface/transformers`, for `tokenizerMode: "slow"`.
 *
 * The package is large: half a gigabyte with its inference runtimes. So it is imported when it is
 * asked for, and by a specifier in a variable: a literal one would be fetched by everybody who
 * imports this library.
 */

import type { EngineFactory, TokenizerEngine } from "./tokenizer_engine.ts";

const PACKAGE = "npm:@huggingface/transformers@^4.3.1";

/** As much as is used of one of the package's tokenizers. */
interface PackageTokenizer {
  (text: string, options: Readonly<Record<string, unknown>>): {
    readonly input_ids: readonly (number | undefined)[];
    readonly token_type_ids?: readonly number[];
  };
  decode(ids: number[], options: Readonly<Record<string, unknown>>): string;
  get_vocab(): ReadonlyMap<string, number>;
}

type TokenizerClass = new (json: object, config: object) => PackageTokenizer;

/** The package could not be loaded. */
export class SlowTokenizerError extends Error {
  override name = "SlowTokenizerError";
}

/**
 * Imports the package, which npm fetches when it is used for the first time.
 *
 * @throws {SlowTokenizerError} It cannot be fetched or may not be run.
 */
export async function loadSlowEngine(specifier: string = PACKAGE): Promise<EngineFactory> {
  let classes: Readonly<Record<string, unknown>>;
  try {
    classes = await importWithoutLocation(specifier);
  } catch (error) {
    throw new SlowTokenizerError(
      `Cannot load "${specifier}", which tokenizerMode "slow" needs: ${
        (error as Error).message
      }; it must be in Deno's cache or npm must be reachable, and it runs with --allow-ffi, ` +
        `--allow-env, --allow-sys and --allow-read; tokenizerMode "auto" needs none of this`,
      { cause: error },
    );
  }
  return (json, config) => new SlowEngine(json, config, classes);
}

/**
 * In a worker there is a `location`, the script's, and the package's runtime takes it for a page's:
 * it fails on an address whose origin is "null". So there is none while the package is loaded.
 */
async function importWithoutLocation(specifier: string): Promise<Record<string, unknown>> {
  const location = Object.getOwnPropertyDescriptor(globalThis, "location");
  const isHidden = location?.configurable === true &&
    Reflect.defineProperty(globalThis, "location", { configurable: true, value: undefined });
  try {
    return await import(specifier);
  } finally {
    if (isHidden) Object.defineProperty(globalThis, "location", location);
  }
}

class SlowEngine implements TokenizerEngine {
  #tokenizer: PackageTokenizer;
  #ids: ReadonlyMap<string, number>;
  #tokens: ReadonlyMap<number, string>;

  constructor(json: object, config: object, classes: Readonly<Record<string, unknown>>) {
    // As the package's own AutoTokenizer chooses; classes that it does not know are the base one.
    const { tokenizer_class: name } = config as { readonly tokenizer_class?: unknown };
    const own = typeof name === "string" ? classes[name.replace(/Fast$/, "")] : undefined;
    const Class =
      (typeof own === "function" ? own : classes["PreTrainedTokenizer"]) as TokenizerClass;
    this.#tokenizer = new Class(json, config);
    this.#ids = this.#tokenizer.get_vocab();
    this.#tokens = new Map([...this.#ids].map(([token, id]) => [id, token]));
  }

  encode(text: string, pair: string | null, addSpecialTokens: boolean) {
    const { input_ids: ids, token_type_ids: typeIds } = this.#tokenizer(text, {
      text_pair: pair,
      add_special_tokens: addSpecialTokens,
      return_token_type_ids: true,
      return_tensor: false,
    });
    return { ids, typeIds };
  }

  decode(ids: number[]): string {
    return this.#tokenizer.decode(ids, {
      skip_special_tokens: false,
      clean_up_tokenization_spaces: false,
    });
  }

  tokenOf(id: number): string | undefined {
    return this.#tokens.get(id);
  }

  idOf(token: string): number | undefined {
    return this.#ids.get(token);
  }
}
