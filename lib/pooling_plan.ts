/** What a task takes from the engine and makes of it: the heads of a model, put to work. */

import { InvalidParameterError } from "./base/errors.ts";
import { activate, applyLayers } from "./pooling/head.ts";
import { checkPoolingParams, type PoolingParams, type PoolingTask } from "./pooling/params.ts";
import { normalized, pool, type RowSelection, rowsFor } from "./pooling/pooler.ts";
import type { ClassifierHead, EmbeddingHead } from "./pooling_model.ts";
import { checkTask, type PoolingContext } from "./pooling_requests.ts";

/** What a request is for: which rows it takes, and what becomes of them. */
export interface PoolingPlan<Data> {
  readonly rows: RowSelection;
  finish(rows: readonly Float32Array[]): Data;
}

/** One vector, or one a token. */
export type Vectors = Float32Array | readonly Float32Array[];

/** What a task takes and makes. Everything that can be refused is refused here. */
export function planFor(
  context: PoolingContext,
  wanted: PoolingTask | undefined,
  params: PoolingParams,
): PoolingPlan<Vectors> {
  checkPoolingParams(params);
  const { embedding, classifier, tasks } = context.pooling;
  const task = wanted ?? tasks[0] ?? "embed";
  checkTask(context, task);
  switch (task) {
    case "embed":
      return embeddingPlan(context, embedding as EmbeddingHead, params);
    case "token_embed": {
      const { finish } = embeddingPlan(
        context,
        { ...embedding as EmbeddingHead, modes: ["lasttoken"] },
        params,
      );
      return { rows: "all", finish: (rows) => rows.map((row) => finish([row])) };
    }
    case "score":
    case "classify":
      return classifierPlan(classifier as ClassifierHead, params);
    case "token_classify": {
      const { finish } = classifierPlan(classifier as ClassifierHead, params);
      return { rows: "all", finish: (rows) => rows.map((row) => finish([row])) };
    }
    default:
      return task satisfies never;
  }
}

/** Pool, dense layers, cut, normalise: in this order, as cutting changes the length. */
function embeddingPlan(
  { id }: PoolingContext,
  { modes, dense, width, lengths }: EmbeddingHead,
  params: PoolingParams,
): PoolingPlan<Float32Array> {
  const { dimensions = width, normalize = true } = params;
  if (params.dimensions !== undefined) checkDimensions(id, params.dimensions, width, lengths);
  return {
    rows: rowsFor(modes),
    finish(rows) {
      const cut = applyLayers(dense, pool(modes, rows)).slice(0, dimensions);
      return normalize ? normalized(cut) : cut;
    },
  };
}

function checkDimensions(
  id: string,
  dimensions: number,
  width: number,
  lengths: EmbeddingHead["lengths"],
): void {
  const fail = (rule: string): never => {
    throw new InvalidParameterError(
      "dimensions",
      dimensions,
      `Cannot use dimensions ${dimensions}: the model "${id}" ${rule}`,
    );
  };
  if (lengths === undefined) {
    return fail("does not support Matryoshka embeddings; dimensions must be unset");
  }
  const { min, only } = lengths;
  if (only !== undefined && !only.includes(dimensions)) {
    return fail(`only supports Matryoshka dimensions [${only.join(", ")}]`);
  }
  if (dimensions < min || dimensions > width) {
    return fail(`only supports dimensions in range [${min}, ${width}]`);
  }
}

/** A row → one number a label. */
export function classifierPlan(
  { row, layers, activation }: ClassifierHead,
  { useActivation = true }: PoolingParams,
): PoolingPlan<Float32Array> {
  return {
    rows: row,
    finish(rows) {
      const logits = applyLayers(layers, rows[0] as Float32Array);
      return useActivation ? activate(activation, logits) : logits;
    },
  };
}
