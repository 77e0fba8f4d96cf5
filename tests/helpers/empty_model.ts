/** Models of any size that take no room: right headers in front of weights that were never written. */

import { readModelConfig } from "../../lib/models/config.ts";
import { expectedTensors } from "../../lib/models/expected_tensors.ts";
import { safetensorsFile } from "./safetensors_writer.ts";
import { tinyConfig, type TinyModel } from "./tiny_model.ts";
import { tinyTokenizerConfig, tinyTokenizerJson } from "./tiny_tokenizer_files.ts";

/** Writes a folder whose weights, of BF16, are a hole in the file: they read as zeros. */
export function writeEmptyModel(dir: string, model: TinyModel): void {
  Deno.mkdirSync(dir, { recursive: true });
  const config = tinyConfig(model);
  const header: Record<string, unknown> = {};
  let offset = 0;
  for (const { name, shape } of expectedTensors(readModelConfig("config.json", config))) {
    const end = offset + 2 * shape.reduce((product, size) => product * size, 1);
    header[name] = { dtype: "BF16", shape, data_offsets: [offset, end] };
    offset = end;
  }
  const head = safetensorsFile(JSON.stringify(header));
  Deno.writeFileSync(`${dir}/model.safetensors`, head);
  Deno.truncateSync(`${dir}/model.safetensors`, head.byteLength + offset);
  const files = {
    "config.json": config,
    "tokenizer.json": tinyTokenizerJson(),
    "tokenizer_config.json": tinyTokenizerConfig(),
  };
  for (const [name, json] of Object.entries(files)) {
    Deno.writeTextFileSync(`${dir}/${name}`, JSON.stringify(json));
  }
}
