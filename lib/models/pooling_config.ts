/** What config.json says about classifying and embedding. */

import { Fields } from "./fields.ts";
import { readLabelCount } from "./label_count.ts";
import { type HeadActivation, readTorchActivation } from "./torch_activations.ts";

/** The fields of config.json that only pooling asks for. */
export interface PoolingConfig {
  /** Of a `…ForSequenceClassification`; undefined for every other architecture. */
  readonly classifier: ClassifierConfig | undefined;
  /** Whether embeddings may be cut, and to which lengths; undefined: not at all. */
  readonly matryoshka: MatryoshkaConfig | undefined;
  /** The two answers of a generative model that is to be used as a classifier: no, then yes. */
  readonly answers: readonly [no: string, yes: string] | undefined;
}

/** A sequence classifier's labels. */
export interface ClassifierConfig {
  /** One a label; undefined where the config gives numbers only. */
  readonly labels: readonly (string | undefined)[];
  readonly activation: HeadActivation;
}

/** The lengths that a Matryoshka model's embeddings may have. */
export interface MatryoshkaConfig {
  /** The lengths there are; undefined: any. */
  readonly dimensions: readonly number[] | undefined;
}

/** Reads config.json, already parsed. `file` is its name for messages. */
export function readPoolingConfig(file: string, json: unknown): PoolingConfig {
  const fields = Fields.ofJson(file, json);
  return {
    classifier: readClassifier(fields),
    matryoshka: readMatryoshka(fields),
    answers: readAnswers(fields),
  };
}

function readClassifier(fields: Fields): ClassifierConfig | undefined {
  const architectures = fields.value("architectures");
  const name = Array.isArray(architectures) ? architectures[0] : undefined;
  if (typeof name !== "string" || !name.endsWith("ForSequenceClassification")) return undefined;
  // Such a file belongs to a language model, whose answers make the score.
  if (fields.boolean("is_original_qwen3_reranker", false)) return undefined;
  const labels = readLabels(fields);
  return { labels, activation: readActivation(fields, labels.length) };
}

function readLabels(fields: Fields): (string | undefined)[] {
  const names = fields.object("id2label");
  return Array.from(
    { length: readLabelCount(fields) },
    (_, label) => names?.optionalString(String(label)),
  );
}

/** The kind of problem decides; else what sentence-transformers noted; else the number of labels. */
function readActivation(fields: Fields, labelCount: number): HeadActivation {
  const problem = fields.optionalString("problem_type");
  switch (problem) {
    case "regression":
      return "identity";
    case "multi_label_classification":
      return "sigmoid";
    case "single_label_classification":
      return "softmax";
    case undefined:
      break;
    default:
      fields.fail(
        "problem_type",
        'it must be "regression", "single_label_classification" or "multi_label_classification"',
      );
  }
  const noted = fields.object("sentence_transformers");
  return (noted && readTorchActivation(noted, "activation_fn")) ??
    readTorchActivation(fields, "sbert_ce_default_activation_function") ??
    (labelCount < 2 ? "sigmoid" : "softmax");
}

function readMatryoshka(fields: Fields): MatryoshkaConfig | undefined {
  const dimensions = fields.value("matryoshka_dimensions");
  if (dimensions === undefined) {
    return fields.boolean("is_matryoshka", false) ? { dimensions: undefined } : undefined;
  }
  const isRight = Array.isArray(dimensions) && dimensions.length > 0 &&
    dimensions.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 1);
  if (!isRight) fields.fail("matryoshka_dimensions", "it must be a list of integers of at least 1");
  return { dimensions };
}

function readAnswers(fields: Fields): readonly [string, string] | undefined {
  const answers = fields.value("classifier_from_token");
  if (answers === undefined) {
    return fields.boolean("is_original_qwen3_reranker", false) ? ["no", "yes"] : undefined;
  }
  if (
    !Array.isArray(answers) || answers.length !== 2 ||
    !answers.every((answer) => typeof answer === "string")
  ) fields.fail("classifier_from_token", 'it must be a list of two tokens, as ["no", "yes"]');
  return [answers[0] as string, answers[1] as string];
}
