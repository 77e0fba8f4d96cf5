/** Errors on their way between threads: what a structured clone would lose is written down. */

import { InvalidParameterError } from "../base/errors.ts";

/** An error as plain data. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  /** Of an `InvalidParameterError`. */
  readonly parameter?: string;
  /** Likewise. */
  readonly value?: unknown;
}

/** An error, ready to be sent. */
export function sendError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error) };
  const { name, message } = error;
  if (!(error instanceof InvalidParameterError)) return { name, message };
  return { name, message, parameter: error.parameter, value: error.value };
}

/** The error again, of its class where that is one that callers tell apart. */
export function receiveError({ name, message, parameter, value }: SentError): Error {
  if (parameter !== undefined) return new InvalidParameterError(parameter, value, message);
  const error = new (BUILT_IN.get(name) ?? Error)(message);
  error.name = name;
  return error;
}

const BUILT_IN: ReadonlyMap<string, new (message: string) => Error> = new Map([
  ["RangeError", RangeError],
  ["SyntaxError", SyntaxError],
  ["TypeError", TypeError],
]);
