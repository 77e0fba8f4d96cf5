/**
 * The functions of `@std/assert` that the tests use, for places that JSR cannot be reached from.
 * See `../README.md`.
 */

import nodeAssert from "node:assert/strict";
import { equal } from "./equal.ts";

export { equal } from "./equal.ts";

/** What a failed assertion throws. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

/** Fails unless `expr` is truthy. */
export function assert(expr: unknown, msg = ""): asserts expr {
  if (!expr) throw new AssertionError(msg);
}

/** Fails unless `expr` is falsy. */
export function assertFalse(expr: unknown, msg = ""): void {
  if (expr) throw new AssertionError(msg);
}

/** Fails unless both are structurally equal, and shows the difference. */
export function assertEquals<T>(actual: T, expected: T, msg?: string): void {
  if (!equal(actual, expected)) {
    throw new AssertionError(
      withSuffix("Values are not equal", msg) + difference(actual, expected),
    );
  }
}

/** Fails if both are structurally equal. */
export function assertNotEquals<T>(actual: T, expected: T, msg?: string): void {
  if (equal(actual, expected)) {
    throw new AssertionError(withSuffix(`Expected something other than ${show(actual)}`, msg));
  }
}

/** Fails unless both are the same by `Object.is`. */
export function assertStrictEquals<T>(
  actual: unknown,
  expected: T,
  msg?: string,
): asserts actual is T {
  if (!Object.is(actual, expected)) {
    const kind = equal(actual, expected)
      ? "Values have the same structure but are not the same"
      : "Values are not strictly equal";
    throw new AssertionError(withSuffix(kind, msg) + difference(actual, expected));
  }
}

/** Fails unless the numbers differ by at most `tolerance`, by default 1e-7 of the expected value. */
export function assertAlmostEquals(
  actual: number,
  expected: number,
  tolerance?: number,
  msg?: string,
): void {
  if (Object.is(actual, expected)) return;
  const limit = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  if (!(Math.abs(expected - actual) <= limit)) {
    throw new AssertionError(
      withSuffix(`Expected ${actual} to be within ${limit} of ${expected}`, msg),
    );
  }
}

/** Fails on null and undefined. */
export function assertExists<T>(actual: T, msg?: string): asserts actual is NonNullable<T> {
  if (actual === undefined || actual === null) {
    throw new AssertionError(withSuffix(`Expected a value instead of ${show(actual)}`, msg));
  }
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, msg?: string): void {
  if (!actual.includes(expected)) {
    throw new AssertionError(
      withSuffix(`Expected ${show(actual)} to contain ${show(expected)}`, msg),
    );
  }
}

/** Fails unless every element of `expected` is structurally equal to some element of `actual`. */
export function assertArrayIncludes<T>(
  actual: ArrayLike<T>,
  expected: ArrayLike<T>,
  msg?: string,
): void {
  const present = Array.from(actual);
  const missing = Array.from(expected).filter((item) => !present.some((at) => equal(at, item)));
  if (missing.length > 0) {
    throw new AssertionError(withSuffix(`Expected ${show(actual)} to have ${show(missing)}`, msg));
  }
}

/** Fails unless `actual` matches. */
export function assertMatch(actual: string, expected: RegExp, msg?: string): void {
  if (!expected.test(actual)) {
    throw new AssertionError(withSuffix(`Expected ${show(actual)} to match ${expected}`, msg));
  }
}

// deno-lint-ignore no-explicit-any -- std's own signature: any class will do
type AnyClass<T> = abstract new (...args: any[]) => T;

/** Fails unless `actual` is an instance of `expectedType`. */
export function assertInstanceOf<T>(
  actual: unknown,
  expectedType: AnyClass<T>,
  msg?: string,
): asserts actual is T {
  if (!(actual instanceof expectedType)) {
    throw new AssertionError(
      withSuffix(`Expected ${show(actual)} to be a ${expectedType.name}`, msg),
    );
  }
}

/** Fails unless `actual` is greater than `expected`. */
export function assertGreater<T>(actual: T, expected: T, msg?: string): void {
  compare(actual > expected, "greater than", actual, expected, msg);
}

/** Fails unless `actual` is greater than or equal to `expected`. */
export function assertGreaterOrEqual<T>(actual: T, expected: T, msg?: string): void {
  compare(actual >= expected, "at least", actual, expected, msg);
}

/** Fails unless `actual` is less than `expected`. */
export function assertLess<T>(actual: T, expected: T, msg?: string): void {
  compare(actual < expected, "less than", actual, expected, msg);
}

/** Fails unless `actual` is less than or equal to `expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, msg?: string): void {
  compare(actual <= expected, "at most", actual, expected, msg);
}

/** Fails unless `fn` throws; with a class, unless it throws such an error that contains a text. */
export function assertThrows(fn: () => unknown, msg?: string): unknown;
export function assertThrows<E extends Error = Error>(
  fn: () => unknown,
  ErrorClass: AnyClass<E>,
  msgIncludes?: string,
  msg?: string,
): E;
export function assertThrows(
  fn: () => unknown,
  classOrMessage?: AnyClass<Error> | string,
  includes?: string,
  msg?: string,
): unknown {
  try {
    fn();
  } catch (error) {
    return checkError("thrown", error, classOrMessage, includes, msg);
  }
  const message = typeof classOrMessage === "string" ? classOrMessage : msg;
  throw new AssertionError(withSuffix("Expected the function to throw", message));
}

/** Fails unless the promise of `fn` rejects; a class and a text as for {@linkcode assertThrows}. */
export function assertRejects(fn: () => PromiseLike<unknown>, msg?: string): Promise<unknown>;
export function assertRejects<E extends Error = Error>(
  fn: () => PromiseLike<unknown>,
  ErrorClass: AnyClass<E>,
  msgIncludes?: string,
  msg?: string,
): Promise<E>;
export async function assertRejects(
  fn: () => PromiseLike<unknown>,
  classOrMessage?: AnyClass<Error> | string,
  includes?: string,
  msg?: string,
): Promise<unknown> {
  const message = typeof classOrMessage === "string" ? classOrMessage : msg;
  let promise: PromiseLike<unknown> | undefined;
  try {
    promise = fn();
  } catch {
    // A function that throws did not reject, whatever it threw: reported below.
  }
  if (typeof promise?.then !== "function") {
    throw new AssertionError(withSuffix("Function throws when expected to reject", message));
  }
  try {
    await promise;
  } catch (error) {
    return checkError("rejected", error, classOrMessage, includes, msg);
  }
  throw new AssertionError(withSuffix("Expected the function to reject", message));
}

/** Always fails. */
export function fail(msg?: string): never {
  throw new AssertionError(withSuffix("Failed assertion", msg));
}

function compare<T>(holds: boolean, words: string, actual: T, expected: T, msg?: string): void {
  if (!holds) {
    throw new AssertionError(
      withSuffix(`Expected ${show(actual)} to be ${words} ${show(expected)}`, msg),
    );
  }
}

function checkError(
  verb: "thrown" | "rejected",
  error: unknown,
  classOrMessage: AnyClass<Error> | string | undefined,
  includes: string | undefined,
  msg: string | undefined,
): unknown {
  if (typeof classOrMessage !== "function") return error;
  if (!(error instanceof Error)) {
    throw new AssertionError(withSuffix(`A non-Error object was ${verb}: ${show(error)}`, msg));
  }
  const found = `${error.name}: ${error.message}`;
  if (!(error instanceof classOrMessage)) {
    throw new AssertionError(
      withSuffix(`Expected a ${classOrMessage.name} instead of ${found}`, msg),
    );
  }
  if (includes !== undefined) assertStringIncludes(error.message, includes, msg);
  return error;
}

function withSuffix(text: string, msg: string | undefined): string {
  return msg ? `${text}: ${msg}` : text;
}

function show(value: unknown): string {
  return Deno.inspect(value, { strAbbreviateSize: Infinity, depth: 10 });
}

/** node's own picture of a difference; std draws another one. */
function difference(actual: unknown, expected: unknown): string {
  try {
    nodeAssert.deepStrictEqual(actual, expected);
  } catch (error) {
    return `\n${error instanceof Error ? error.message.replace(/^.*\n/, "") : String(error)}`;
  }
  return `\n${show(actual)}\n${show(expected)}`;
}
