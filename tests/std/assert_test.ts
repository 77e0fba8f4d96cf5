import {
  assert,
  assertAlmostEquals,
  assertArrayIncludes,
  assertEquals,
  assertExists,
  assertFalse,
  assertGreater,
  assertGreaterOrEqual,
  assertInstanceOf,
  AssertionError,
  assertLess,
  assertLessOrEqual,
  assertMatch,
  assertNotEquals,
  assertRejects,
  assertStrictEquals,
  assertStringIncludes,
  assertThrows,
  equal,
  fail,
} from "@std/assert";

/** Whether a call throws an AssertionError, found without the functions under test. */
function fails(run: () => unknown): boolean {
  try {
    run();
  } catch (error) {
    if (error instanceof AssertionError && error instanceof Error) return true;
    throw error;
  }
  return false;
}

async function failsLater(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
  } catch (error) {
    if (error instanceof AssertionError) return true;
    throw error;
  }
  return false;
}

function check(condition: boolean, what: string): void {
  if (!condition) throw new Error(`Does not hold: ${what}`);
}

class Point {
  constructor(readonly x: number) {}
}

Deno.test("equal knows values that are equal", () => {
  const circle: Record<string, unknown> = {};
  circle["self"] = circle;
  const otherCircle: Record<string, unknown> = {};
  otherCircle["self"] = otherCircle;
  const pairs: [unknown, unknown][] = [
    [1, 1],
    [NaN, NaN],
    [0, -0],
    ["a", "a"],
    [null, null],
    [undefined, undefined],
    [10n, 10n],
    [[1, [2]], [1, [2]]],
    [{ a: 1, b: { c: 2 } }, { b: { c: 2 }, a: 1 }],
    [Object.assign(Object.create(null), { a: 1 }), { a: 1 }],
    [new Point(1), new Point(1)],
    [new Date(5), new Date(5)],
    [new Date(NaN), new Date(NaN)],
    [/a/g, /a/g],
    [new URL("https://a.example/"), new URL("https://a.example/")],
    [new Map([["a", { b: 1 }]]), new Map([["a", { b: 1 }]])],
    [new Map([[{ k: 1 }, 1]]), new Map([[{ k: 1 }, 1]])],
    [new Set([1, 2]), new Set([2, 1])],
    [new Set([{ a: 1 }]), new Set([{ a: 1 }])],
    [new Uint8Array([1, 2]), new Uint8Array([1, 2])],
    [circle, otherCircle],
  ];
  for (const [a, b] of pairs) {
    check(equal(a, b) && equal(b, a), `${Deno.inspect(a)} equals ${Deno.inspect(b)}`);
    assertEquals(a, b);
    check(fails(() => assertNotEquals(a, b)), `assertNotEquals fails on ${Deno.inspect(a)}`);
  }
});

Deno.test("equal knows values that differ", () => {
  const pairs: [unknown, unknown][] = [
    [1, 2],
    [1, "1"],
    [1, 1n],
    [null, undefined],
    [null, {}],
    [[1], [1, 2]],
    [[1, 2], [2, 1]],
    [[], {}],
    [{ a: 1 }, { a: 1, b: 2 }],
    [{ a: undefined }, {}],
    [{ a: undefined }, { b: undefined }],
    [new Point(1), { x: 1 }],
    [new Point(1), new Point(2)],
    [new Date(5), new Date(6)],
    [/a/g, /a/i],
    [new Map([["a", 1]]), new Map([["a", 2]])],
    [new Map([["a", 1]]), new Map([["b", 1]])],
    [new Set([1]), new Set([2])],
    [new Set([1]), new Set([1, 2])],
    [new Uint8Array([1]), new Uint8Array([2])],
    [new Uint8Array([1]), new Int8Array([1])],
    [{ [Symbol.iterator]: 1 }, {}],
  ];
  for (const [a, b] of pairs) {
    check(!equal(a, b) && !equal(b, a), `${Deno.inspect(a)} differs from ${Deno.inspect(b)}`);
    assertNotEquals(a, b);
    check(fails(() => assertEquals(a, b)), `assertEquals fails on ${Deno.inspect(a)}`);
  }
});

Deno.test("assert and assertFalse look at truthiness, fail always fails", () => {
  assert(1);
  assert("a");
  assertFalse(0);
  assertFalse("");
  check(fails(() => assert(0)), "assert(0) fails");
  check(fails(() => assertFalse({})), "assertFalse({}) fails");
  check(fails(() => fail()) && fails(() => fail("why")), "fail fails");
});

Deno.test("assertStrictEquals compares by identity, where NaN is NaN and -0 is not 0", () => {
  const object = {};
  assertStrictEquals(object, object);
  assertStrictEquals(NaN, NaN);
  check(fails(() => assertStrictEquals({}, {})), "two objects are not the same");
  check(fails(() => assertStrictEquals(0, -0)), "0 is not -0");
});

Deno.test("assertAlmostEquals takes a tolerance, else one ten-millionth of the expected value", () => {
  assertAlmostEquals(0.1 + 0.2, 0.3);
  assertAlmostEquals(1.04, 1, 0.05);
  assertAlmostEquals(Infinity, Infinity);
  assertAlmostEquals(NaN, NaN);
  assertAlmostEquals(1e10 + 900, 1e10);
  check(fails(() => assertAlmostEquals(1e10 + 1100, 1e10)), "1100 of 1e10 is too much");
  check(fails(() => assertAlmostEquals(1.06, 1, 0.05)), "0.06 is more than 0.05");
  check(fails(() => assertAlmostEquals(NaN, 1)), "NaN is not close to 1");
  check(fails(() => assertAlmostEquals(1, Infinity)), "1 is not close to infinity");
});

Deno.test("assertExists, assertInstanceOf, assertMatch and the includes family hold and fail", () => {
  assertExists(0);
  assertExists("");
  check(fails(() => assertExists(null)), "null does not exist");
  check(fails(() => assertExists(undefined)), "undefined does not exist");
  assertInstanceOf(new RangeError("a"), Error);
  check(fails(() => assertInstanceOf(new Error("a"), RangeError)), "an Error is no RangeError");
  check(fails(() => assertInstanceOf(1, Number)), "1 is no Number object");
  assertMatch("deno 2", /^deno \d$/);
  check(fails(() => assertMatch("deno", /\d/)), "no digit");
  assertStringIncludes("a sentence", "sent");
  check(fails(() => assertStringIncludes("a sentence", "word")), "no word");
  assertArrayIncludes([1, { a: 2 }, 3], [{ a: 2 }, 1]);
  check(fails(() => assertArrayIncludes([1, 2], [3])), "3 is missing");
});

Deno.test("The order assertions hold on their side of the border", () => {
  assertGreater(2, 1);
  assertGreaterOrEqual(2, 2);
  assertLess("a", "b");
  assertLessOrEqual(1n, 1n);
  check(fails(() => assertGreater(1, 1)), "1 > 1");
  check(fails(() => assertGreaterOrEqual(1, 2)), "1 >= 2");
  check(fails(() => assertLess(1, 1)), "1 < 1");
  check(fails(() => assertLessOrEqual(2, 1)), "2 <= 1");
  check(fails(() => assertLessOrEqual(NaN, 1)), "NaN <= 1");
});

Deno.test("assertThrows returns what was thrown, and checks class and text when they are given", () => {
  const error = new TypeError("hello world");
  const run = () => {
    throw error;
  };
  check(assertThrows(run) === error, "the error comes back");
  check(assertThrows(run, TypeError) === error, "the error comes back");
  check(assertThrows(run, Error, "hello") === error, "a subclass will do");
  check(
    assertThrows(() => {
      throw 5;
    }) === 5,
    "anything thrown will do without a class",
  );
  check(fails(() => assertThrows(() => 1)), "nothing thrown");
  check(fails(() => assertThrows(() => 1, "why")), "nothing thrown, with a message");
  check(fails(() => assertThrows(run, RangeError)), "another class");
  check(fails(() => assertThrows(run, TypeError, "bye")), "another text");
  check(
    fails(() =>
      assertThrows(() => {
        throw "hello";
      }, Error)
    ),
    "no error was thrown",
  );
});

Deno.test("assertRejects wants a promise that rejects, not a function that throws", async () => {
  const error = new TypeError("hello world");
  const run = () => Promise.reject(error);
  check(await assertRejects(run) === error, "the error comes back");
  check(await assertRejects(run, TypeError, "world") === error, "the error comes back");
  check(await failsLater(() => assertRejects(() => Promise.resolve(1))), "it resolves");
  check(await failsLater(() => assertRejects(run, RangeError)), "another class");
  check(await failsLater(() => assertRejects(run, TypeError, "bye")), "another text");
  check(
    await failsLater(() =>
      assertRejects(() => {
        throw error;
      })
    ),
    "it throws at once",
  );
});

Deno.test("A failed assertion says the message it was given", () => {
  const runs: (() => unknown)[] = [
    () => assert(false, "because"),
    () => assertEquals(1, 2, "because"),
    () => assertStrictEquals({}, {}, "because"),
    () => assertExists(null, "because"),
    () => assertThrows(() => 1, Error, "text", "because"),
    () => fail("because"),
  ];
  for (const run of runs) {
    const error = assertThrows(run, AssertionError);
    check(error.message.includes("because"), `${run}: ${error.message}`);
  }
});
