/** Which class a config.json names: the architecture, and the head that is put on it. */

import { ENCODER_CLASSES, type EncoderClass } from "./encoder_config.ts";
import { FAMILIES } from "./families.ts";
import type { Fields } from "./fields.ts";
import type { DecoderArchitecture, HeadConfig } from "./model_config.ts";

/** A class of decoders that config.json may name. */
export interface DecoderClass {
  readonly kind: "decoder";
  readonly architecture: DecoderArchitecture;
  readonly head: HeadConfig["kind"];
}

/** Every class that can be run, by its name: each family with a language head, without one, or with a classifier. */
const CLASSES = new Map<string, DecoderClass | EncoderClass>([
  ...Object.entries(FAMILIES).flatMap(([name, { stem = name.replace(/ForCausalLM$/, "") }]) => {
    const architecture = name as DecoderArchitecture;
    return ([
      [name, "language"],
      [`${stem}Model`, "none"],
      [`${stem}ForSequenceClassification`, "classifier"],
    ] as const).map(([className, head]) =>
      [className, { kind: "decoder", architecture, head }] as const
    );
  }),
  // K-EXAONE's own spelling; transformers has another.
  ["ExaoneMoEForCausalLM", {
    kind: "decoder",
    architecture: "ExaoneMoeForCausalLM",
    head: "language",
  }],
  ...ENCODER_CLASSES,
]);

/** Reads `architectures`, or where that is absent `model_type`; refuses what cannot be run. */
export function readModelClass(
  fields: Fields,
): { readonly className: string; readonly model: DecoderClass | EncoderClass } {
  const className = readClassName(fields);
  const model = CLASSES.get(className) as DecoderClass | EncoderClass;
  checkModelType(fields, className, model);
  // Named as a classifier, the original Qwen3-Reranker still is a language model.
  const isOriginal = fields.boolean("is_original_qwen3_reranker", false);
  return model.kind === "decoder" && isOriginal
    ? { className, model: { ...model, head: "language" } }
    : { className, model };
}

/** The first name that is stated; where none is, that of the family's main class. */
function readClassName(fields: Fields): string {
  const names = [...CLASSES].filter(([name, model]) => name === model.architecture);
  const supported = names.map(([name]) => name).join(", ");
  const stated = fields.value("architectures");
  if (stated !== undefined) {
    const name = Array.isArray(stated) ? stated[0] : undefined;
    if (typeof name === "string" && CLASSES.has(name)) return name;
    fields.fail(
      "architectures",
      `the supported architectures are ${supported}, without a head or as a classifier too`,
    );
  }
  const modelType = fields.optionalString("model_type");
  for (const [name, model] of CLASSES) {
    if (modelTypeOf(model) === modelType) return name;
  }
  fields.fail("architectures", `it must name one of ${supported}`);
}

/** A name of another family would mean that one of the two is wrong. */
function checkModelType(
  fields: Fields,
  className: string,
  model: DecoderClass | EncoderClass,
): void {
  const stated = fields.optionalString("model_type");
  const own = modelTypeOf(model);
  // The classes of these two are the same, and old files mix their names up.
  const known = (type: string) => type === "xlm-roberta" ? "roberta" : type;
  if (stated === undefined || known(stated) === known(own)) return;
  const others = new Set([...CLASSES.values()].map(modelTypeOf));
  if (others.has(stated)) {
    fields.fail("model_type", `architectures names ${className}, whose model_type is "${own}"`);
  }
}

function modelTypeOf(model: DecoderClass | EncoderClass): string {
  return model.kind === "decoder" ? FAMILIES[model.architecture].modelType : model.modelType;
}
