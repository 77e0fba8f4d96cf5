/** The few functions of `@std/assert` that this repository uses, over `node:assert`, for places JSR cannot be reached from. */
import nodeAssert from "node:assert/strict";

/** What a failed assertion throws. */
export class AssertionError extends Error {
  override name = "AssertionError";
}

function check(run: () => void, message?: string): void {
  try {
    run();
  } catch (error) {
    const detail = error instanceof Error ? error.message : String(error);
    throw new AssertionError(message === undefined ? detail : `${message}: ${detail}`);
  }
}

/** Fails unless `condition` is truthy. */
export function assert(condition: unknown, message = ""): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Fails unless both are structurally equal. */
export function assertEquals<T>(actual: T, expected: T, message?: string): void {
  check(() => nodeAssert.deepStrictEqual(actual, expected), message);
}

/** Fails if both are structurally equal. */
export function assertNotEquals<T>(actual: T, expected: T, message?: string): void {
  check(() => nodeAssert.notDeepStrictEqual(actual, expected), message);
}

/** Fails unless both are the same by `Object.is`. */
export function assertStrictEquals<T>(actual: unknown, expected: T, message?: string): asserts actual is T {
  check(() => nodeAssert.ok(Object.is(actual, expected), `${String(actual)} is not ${String(expected)}`), message);
}

/** Fails unless the two numbers differ by at most `tolerance` (default: 1e-7 of the expected value). */
export function assertAlmostEquals(actual: number, expected: number, tolerance?: number, message?: string): void {
  if (Object.is(actual, expected)) return;
  const limit = tolerance ?? (Number.isFinite(expected) ? Math.abs(expected * 1e-7) : 1e-7);
  if (!(Math.abs(expected - actual) <= limit)) {
    throw new AssertionError(`${message ?? "Numbers differ"}: ${actual} is not within ${limit} of ${expected}`);
  }
}

/** Fails on null and undefined. */
export function assertExists<T>(actual: T, message?: string): asserts actual is NonNullable<T> {
  if (actual === undefined || actual === null) throw new AssertionError(message ?? "A value was expected");
}

/** Fails unless `actual` contains `expected`. */
export function assertStringIncludes(actual: string, expected: string, message?: string): void {
  if (!actual.includes(expected)) {
    throw new AssertionError(`${message ?? "Text missing"}: expected "${actual}" to contain "${expected}"`);
  }
}

/** Fails unless `actual` matches. */
export function assertMatch(actual: string, expected: RegExp, message?: string): void {
  if (!expected.test(actual)) throw new AssertionError(`${message ?? "No match"}: "${actual}" against ${expected}`);
}

// deno-lint-ignore no-explicit-any -- std's own signature: any constructor will do
type ErrorClass<E> = abstract new (...args: any[]) => E;

/** Fails unless `actual` is an instance of `expectedType`. */
export function assertInstanceOf<E>(actual: unknown, expectedType: ErrorClass<E>, message?: string): asserts actual is E {
  if (!(actual instanceof expectedType)) {
    throw new AssertionError(`${message ?? "Wrong class"}: ${String(actual)} is not a ${expectedType.name}`);
  }
}

/** Fails unless `actual` is greater than `expected`. */
export function assertGreater<T>(actual: T, expected: T, message?: string): void {
  if (!(actual > expected)) throw new AssertionError(message ?? `${actual} is not greater than ${expected}`);
}

/** Fails unless `actual` is less than or equal to `expected`. */
export function assertLessOrEqual<T>(actual: T, expected: T, message?: string): void {
  if (!(actual <= expected)) throw new AssertionError(message ?? `${actual} is not at most ${expected}`);
}

function checkError<E>(error: unknown, errorClass: ErrorClass<E> | string | undefined, includes?: string): void {
  if (typeof errorClass === "function") {
    assertInstanceOf(error, errorClass);
    if (includes !== undefined) assertStringIncludes((error as Error).message, includes);
  }
}

/** Fails unless `run` throws; optionally an error of a class whose message contains a text. */
export function assertThrows(run: () => unknown, message?: string): unknown;
export function assertThrows<E extends Error = Error>(run: () => unknown, errorClass: ErrorClass<E>, includes?: string, message?: string): E;
export function assertThrows(run: () => unknown, errorClass?: ErrorClass<Error> | string, includes?: string, message?: string): unknown {
  let thrown: unknown;
  try {
    run();
  } catch (error) {
    thrown = error;
    checkError(error, errorClass, includes);
    return thrown;
  }
  throw new AssertionError((typeof errorClass === "string" ? errorClass : message) ?? "Expected the function to throw");
}

/** Fails unless `run` rejects; optionally with an error of a class whose message contains a text. */
export function assertRejects(run: () => PromiseLike<unknown>, message?: string): Promise<unknown>;
export function assertRejects<E extends Error = Error>(run: () => PromiseLike<unknown>, errorClass: ErrorClass<E>, includes?: string, message?: string): Promise<E>;
export async function assertRejects(run: () => PromiseLike<unknown>, errorClass?: ErrorClass<Error> | string, includes?: string, message?: string): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    checkError(error, errorClass, includes);
    return error;
  }
  throw new AssertionError((typeof errorClass === "string" ? errorClass : message) ?? "Expected the promise to reject");
}

/** Always fails. */
export function fail(message = "Failed"): never {
  throw new AssertionError(message);
}
