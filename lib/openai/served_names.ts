/** Whether a request names the model that is served. */

import { HttpError } from "./errors.ts";

/** The error for a name that no model here has, in vLLM's words. */
export function unknownModel(name: string): HttpError {
  return new HttpError(404, `The model \`${name}\` does not exist.`, { param: "model" });
}

/** Refuses a name that is not among the served ones; no name is every name. */
export function checkServedName(name: string | undefined, names: readonly string[]): void {
  if (name !== undefined && name !== "" && !names.includes(name)) throw unknownModel(name);
}
