/** The tensors of experts in every form in which checkpoints have them. */

import {
  expertName,
  type ExpertProjection,
  expertStackName,
} from "../../lib/models/expert_names.ts";
import type { DecoderConfig } from "../../lib/models/model_config.ts";
import type { SafetensorsPart } from "./safetensors_writer.ts";
import { tinyBytes, type TinyTensor, tinyValues } from "./tiny_values.ts";

/**
 * How experts are stored: each on its own; all of a layer in one tensor, as transformers 5 has them;
 * as GPT-OSS has them in bfloat16, inputs first; or as it has them in MXFP4.
 */
export type ExpertForm = "single" | "fused" | "columns" | "mxfp4";

/** Twice the floats of four bits. */
const E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

const experts = (layer: number) => `model.layers.${layer}.mlp.experts`;

/** The stored tensor that a projection is in, and which of its rows are the projection's. */
function turnOf(projection: ExpertProjection) {
  return projection === "down_proj"
    ? { stored: "down_proj", first: 0, stride: 1 }
    : { stored: "gate_up_proj", first: projection === "gate_proj" ? 0 : 1, stride: 2 };
}

/** Bytes of scales are 122 or 123. */
function scaleBytes(name: string, count: number): Uint8Array {
  return tinyBytes(name, count).map((byte) => 122 + (byte >> 7));
}

/** Values of GPT-OSS's experts: they follow from the bytes of the MXFP4 tensors. */
export function gptOssValues(
  name: string,
  { experts: config, hiddenSize }: DecoderConfig,
): Float32Array | undefined {
  const [, layerText, expertText, projectionText, kind] =
    /^model\.layers\.(\d+)\.mlp\.experts\.(?:(\d+)\.)?(\w+_proj)\.(weight|bias)$/.exec(name) ?? [];
  if (config === undefined || layerText === undefined) return undefined;
  const layer = Number(layerText);
  const projection = projectionText as ExpertProjection;
  const { stored, first, stride } = turnOf(projection);
  const { count, intermediateSize } = config;
  const [n, k] = stored === "down_proj"
    ? [hiddenSize, intermediateSize]
    : [intermediateSize, hiddenSize];
  const rows = n * stride;
  const disk = `${experts(layer)}.${stored}`;
  if (kind === "bias") {
    const all = tinyValues(`${disk}_bias`, count * rows);
    return all.filter((_, i) => i % stride === first);
  }
  const blocks = tinyBytes(`${disk}_blocks`, count * rows * k / 2);
  const scales = scaleBytes(`${disk}_scales`, count * rows * k / 32);
  return Float32Array.from({ length: n * k }, (_, i) => {
    const row = Number(expertText) * rows + Math.floor(i / k) * stride + first;
    const at = row * k + i % k;
    const byte = blocks[at >> 1]!;
    const code = at % 2 === 0 ? byte & 15 : byte >> 4;
    return E2M1[code]! / 2 * 2 ** (scales[at >> 5]! - 127);
  });
}

/** The stored form of a model's tensors; those of no expert stay as they are. */
export function storeExperts(
  tensors: readonly TinyTensor[],
  config: DecoderConfig,
  form: ExpertForm,
): (TinyTensor | SafetensorsPart)[] {
  if (config.experts === undefined || form === "single") return [...tensors];
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const rest = tensors.filter(({ name }) => !name.includes(".mlp.experts."));
  const { count, layers } = config.experts;
  const stored: (TinyTensor | SafetensorsPart)[] = [];
  layers.forEach((hasExperts, layer) => {
    if (!hasExperts) return;
    const matrices = (projection: ExpertProjection) =>
      Array.from(
        { length: count },
        (_, e) => byName.get(expertName(expertStackName(layer, projection), e))!,
      );
    for (const name of ["gate_up_proj", "down_proj"] as const) {
      const disk = `${experts(layer)}.${name}`;
      const parts = name === "down_proj"
        ? ["down_proj"] as const
        : ["gate_proj", "up_proj"] as const;
      const [n, k] = matrices(parts[0])[0]!.shape as [number, number];
      const rows = n * parts.length;
      const biases = parts.map((part) => byName.get(`${experts(layer)}.${part}.bias`));
      if (form === "mxfp4") {
        const cells = [count, rows, k / 32];
        const size = count * rows * k;
        stored.push(
          {
            name: `${disk}_blocks`,
            dtype: "U8",
            shape: [...cells, 16],
            bytes: tinyBytes(`${disk}_blocks`, size / 2),
          },
          {
            name: `${disk}_scales`,
            dtype: "U8",
            shape: cells,
            bytes: scaleBytes(`${disk}_scales`, size / 32),
          },
        );
      } else {
        const isFused = form === "fused";
        const values = new Float32Array(count * rows * k);
        parts.forEach((part, p) =>
          matrices(part).forEach(({ values: own }, e) => {
            own.forEach((value, i) => {
              const [row, column] = [Math.floor(i / k), i % k];
              const at = isFused
                ? (e * rows + p * n + row) * k + column
                : (e * k + column) * rows + row * parts.length + p;
              values[at] = value;
            });
          })
        );
        const shape = isFused ? [count, rows, k] : [count, k, rows];
        stored.push({ name: disk, shape, values });
      }
      if (biases[0] === undefined) continue;
      const values = new Float32Array(count * rows);
      biases.forEach((bias, p) =>
        bias!.values.forEach((value, i) => values[i * parts.length + p] = value)
      );
      stored.push({ name: `${disk}_bias`, shape: [count, rows], values });
    }
  });
  return [...rest, ...stored];
}

/** The experts of each layer in one tensor a projection, as GGUF has them, under the first one's name. */
export function stackExperts(tensors: readonly TinyTensor[], config: DecoderConfig): TinyTensor[] {
  const count = config.experts?.count ?? 0;
  return tensors.flatMap((tensor): TinyTensor[] => {
    const { name, shape, values } = tensor;
    if (/\.mlp\.experts\.\w+_proj\.bias$/.test(name)) {
      return [{ name, shape: [count, values.length / count], values }];
    }
    const [, before, expert, after] = /^(.*\.mlp\.experts\.)(\d+)(\..*)$/.exec(name) ?? [];
    if (expert === undefined) return [tensor];
    if (expert !== "0") return [];
    const all = new Float32Array(count * values.length);
    for (let e = 0; e < count; e++) {
      const own = tensors.find((other) => other.name === `${before}${e}${after}`)!;
      all.set(own.values, e * values.length);
    }
    return [{ name, shape: [count, ...shape], values: all }];
  });
}
