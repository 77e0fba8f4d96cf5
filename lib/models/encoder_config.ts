/** The config.json of an encoder of the BERT family → a checked {@linkcode EncoderConfig}. */

import type { Fields } from "./fields.ts";
import { readLabelCount } from "./label_count.ts";
import {
  type EncoderArchitecture,
  type EncoderConfig,
  type HeadConfig,
  SIZE_RULES,
} from "./model_config.ts";

/** What the classes of one architecture assume where config.json is silent, and what they always do. */
interface Family {
  /** What config.json calls it. */
  readonly modelType: string;
  readonly vocabSize: number;
  readonly padTokenId: number;
  /** Positions are counted from 0, or from the number behind the pad token's, which pads keep. */
  readonly positions: "from 0" | "behind the pad token";
  /** The names of the two layers of a classifier. */
  readonly classifier: { readonly dense: string; readonly output: string };
}

const ROBERTA = {
  vocabSize: 50_265,
  padTokenId: 1,
  positions: "behind the pad token",
  classifier: { dense: "classifier.dense", output: "classifier.out_proj" },
} as const;

const FAMILIES: Readonly<Record<EncoderArchitecture, Family>> = {
  BertModel: {
    modelType: "bert",
    vocabSize: 30_522,
    padTokenId: 0,
    positions: "from 0",
    classifier: { dense: "pooler.dense", output: "classifier" },
  },
  RobertaModel: { ...ROBERTA, modelType: "roberta" },
  XLMRobertaModel: { ...ROBERTA, modelType: "xlm-roberta", vocabSize: 30_522 },
};

/** A class of encoders that config.json may name. */
export interface EncoderClass {
  readonly kind: "encoder";
  readonly architecture: EncoderArchitecture;
  readonly modelType: string;
  readonly head: "none" | "classifier";
}

/** Every class that can be run, by its name. Of a masked language model only the backbone is used. */
export const ENCODER_CLASSES: readonly (readonly [name: string, EncoderClass])[] = Object.entries(
  FAMILIES,
).flatMap(([name, { modelType }]) => {
  const architecture = name as EncoderArchitecture;
  return ([
    [name, "none"],
    [name.replace(/Model$/, "ForMaskedLM"), "none"],
    [name.replace(/Model$/, "ForSequenceClassification"), "classifier"],
  ] as const).map(([className, head]) =>
    [className, { kind: "encoder", architecture, modelType, head }] as const
  );
});

/** Reads the fields; where they are silent, what the classes of the family assume. */
export function readEncoderConfig(
  fields: Fields,
  className: string,
  { architecture, head }: EncoderClass,
): EncoderConfig {
  const family = FAMILIES[architecture];
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
  const firstPosition = readFirstPosition(fields, family);
  if (firstPosition >= maxPositionEmbeddings) {
    fields.fail(
      "max_position_embeddings",
      `positions begin at pad_token_id + 1 = ${firstPosition}, so it must be greater than that`,
    );
  }
  return {
    kind: "encoder",
    architecture,
    className,
    modelType: fields.optionalString("model_type") ?? family.modelType,
    head: readHead(fields, head, family),
    vocabSize: fields.integer("vocab_size", SIZE_RULES.vocabSize, family.vocabSize),
    hiddenSize,
    intermediateSize: fields.integer("intermediate_size", SIZE_RULES.intermediateSize, 3072),
    layerCount: fields.integer("num_hidden_layers", SIZE_RULES.layerCount, 12),
    headCount,
    kvHeadCount: headCount,
    headDim,
    layerNormEpsilon: Math.fround(fields.number("layer_norm_eps", SIZE_RULES.epsilon, 1e-12)),
    tokenTypeCount: fields.integer("type_vocab_size", SIZE_RULES.tokenTypes, 2),
    maxPositionEmbeddings,
    firstPosition,
    contextLength: maxPositionEmbeddings - firstPosition,
    // There is no language head that could be tied to them.
    tieWordEmbeddings: false,
    bosTokenId: undefined,
    endTokenIds: [],
    dtype: fields.optionalString("dtype") ?? fields.optionalString("torch_dtype"),
  };
}

function readFirstPosition(fields: Fields, { positions, padTokenId }: Family): number {
  if (positions === "from 0") return 0;
  return fields.integer("pad_token_id", { min: 0, max: SIZE_RULES.vocabSize.max }, padTokenId) + 1;
}

function readHead(
  fields: Fields,
  kind: EncoderClass["head"],
  { classifier }: Family,
): HeadConfig {
  if (kind === "none") return { kind };
  return { kind, labelCount: readLabelCount(fields), ...classifier };
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
      fields.fail(key, "such a model can be run as an encoder only, so it must be false");
    }
  }
}
