/** The config.json of a BERT model → a checked {@linkcode EncoderConfig}. */

import type { Fields } from "./fields.ts";
import { readLabelCount } from "./label_count.ts";
import {
  type Architecture,
  type EncoderArchitecture,
  type EncoderConfig,
  SIZE_RULES,
} from "./model_config.ts";

/** What config.json calls the family. */
export const BERT_MODEL_TYPE = "bert";

/** The supported encoders. Of a masked language model only the backbone is used. */
export const ENCODER_ARCHITECTURES: readonly EncoderArchitecture[] = [
  "BertModel",
  "BertForMaskedLM",
  "BertForSequenceClassification",
];

/** Whether an architecture is an encoder. */
export function isEncoderArchitecture(name: Architecture): name is EncoderArchitecture {
  return (ENCODER_ARCHITECTURES as readonly Architecture[]).includes(name);
}

/** Reads the fields; where they are silent, what the classes of the family assume. */
export function readEncoderConfig(
  fields: Fields,
  architecture: EncoderArchitecture,
): EncoderConfig {
  refuseWhatIsNotBuilt(fields);
  const hiddenSize = fields.integer("hidden_size", SIZE_RULES.hiddenSize, 768);
  const headCount = fields.integer("num_attention_heads", SIZE_RULES.headCount, 12);
  const headDim = hiddenSize / headCount;
  if (!Number.isInteger(headDim) || headDim % 8 !== 0) {
    fields.fail(
      "num_attention_heads",
      `it makes heads of hidden_size ${hiddenSize} / ${headCount} = ${headDim}, ` +
        "which must be a multiple of 8",
    );
  }
  const maxPositionEmbeddings = fields.integer(
    "max_position_embeddings",
    SIZE_RULES.positions,
    512,
  );
  return {
    kind: "encoder",
    architecture,
    modelType: fields.optionalString("model_type") ?? BERT_MODEL_TYPE,
    head: architecture === "BertForSequenceClassification"
      ? { kind: "classifier", labelCount: readLabelCount(fields) }
      : { kind: "none" },
    vocabSize: fields.integer("vocab_size", SIZE_RULES.vocabSize, 30_522),
    hiddenSize,
    intermediateSize: fields.integer("intermediate_size", SIZE_RULES.intermediateSize, 3072),
    layerCount: fields.integer("num_hidden_layers", SIZE_RULES.layerCount, 12),
    headCount,
    kvHeadCount: headCount,
    headDim,
    layerNormEpsilon: Math.fround(fields.number("layer_norm_eps", SIZE_RULES.epsilon, 1e-12)),
    tokenTypeCount: fields.integer("type_vocab_size", SIZE_RULES.tokenTypes, 2),
    maxPositionEmbeddings,
    contextLength: maxPositionEmbeddings,
    // There is no language head that could be tied to them.
    tieWordEmbeddings: false,
    bosTokenId: undefined,
    endTokenIds: [],
    dtype: fields.optionalString("dtype") ?? fields.optionalString("torch_dtype"),
  };
}

function refuseWhatIsNotBuilt(fields: Fields): void {
  const positions = fields.optionalString("position_embedding_type");
  if (positions !== undefined && positions !== "absolute") {
    fields.fail("position_embedding_type", 'it must be "absolute"');
  }
  const activation = fields.optionalString("hidden_act");
  if (activation !== undefined && activation !== "gelu") {
    fields.fail("hidden_act", 'it must be "gelu", the exact one');
  }
  for (const key of ["is_decoder", "add_cross_attention"]) {
    if (fields.boolean(key, false)) {
      fields.fail(key, "a BERT model can be run as an encoder only, so it must be false");
    }
  }
}
