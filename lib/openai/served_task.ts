/** What a route asks of a model, and whether the loaded one can do it. */

import type { ModelInfo } from "../llm.ts";
import { HttpError } from "./errors.ts";

/** What a model must be for. */
export type ServedTask = "generate" | "embed" | "classify" | "score" | "rerank" | "pool";

interface Facts {
  /** As clients of Furiosa-LLM know it: "The model does not support … task." */
  readonly name: string;
  readonly canServe: (info: ModelInfo) => boolean;
  /** What to load instead. */
  readonly right: string;
}

/** A cosine of embeddings is a score too. */
const canScore = ({ poolingTasks }: ModelInfo): boolean =>
  poolingTasks.includes("score") || poolingTasks.includes("embed");

const TASKS: { readonly [Task in ServedTask]: Facts } = {
  generate: {
    name: "text generation",
    canServe: ({ task }) => task === "generate",
    right: "load a generative model, with task generate or auto",
  },
  embed: {
    name: "embedding",
    canServe: ({ poolingTasks }) => poolingTasks.includes("embed"),
    right: "load an embedding model, or a generative one with task embed",
  },
  classify: {
    name: "classify",
    canServe: ({ poolingTasks }) => poolingTasks.includes("classify"),
    right: "load a model with a classifier",
  },
  score: {
    name: "score",
    canServe: canScore,
    right: "load a reranker, a cross-encoder or an embedding model",
  },
  rerank: {
    name: "rerank",
    canServe: canScore,
    right: "load a reranker, a cross-encoder or an embedding model",
  },
  pool: {
    name: "pooling",
    canServe: ({ poolingTasks }) => poolingTasks.length > 0,
    right: "load a model for embeddings, scores or labels, or a generative one with task embed",
  },
};

/** Refuses a route that the model cannot serve, before anything of the request is read. */
export function checkServedTask(task: ServedTask, info: ModelInfo): void {
  const { name, canServe, right } = TASKS[task];
  if (canServe(info)) return;
  throw new HttpError(
    400,
    `The model does not support ${name} task. It was loaded for ${info.task}: ${right}`,
    { type: "model_not_supported", param: "model" },
  );
}
