/** JSON reading and writing: the position of a break, and the order of maps. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { JsonError, parseJson, writeJson } from "../../lib/openai/json.ts";

Deno.test("A broken text is reported at the first character that cannot be", () => {
  for (
    const [text, position] of [
      ["", 0],
      ["  ", 2],
      ["{", 1],
      ['{"a"', 4],
      ['{"a":1,}', 7],
      ["[1,]", 3],
      ["[1 2]", 3],
      ["{]", 1],
      ["[}", 1],
      ["1 2", 2],
      ["01", 1],
      ["truth", 0],
      ["nullx", 4],
      ['"a\nb"', 2],
      ['"a\\x"', 2],
      ['"abc', 4],
      ["{a:1}", 1],
      ["[NaN]", 1],
      ["'a'", 0],
    ] as const
  ) {
    const error = assertThrows(() => parseJson(text), JsonError);
    assertEquals(error.position, position, text);
  }
});

Deno.test("Wherever a valid text is cut, the break is at its end or the rest is valid", () => {
  const text = '{"a": [1, -2.5e3, {"b": "x\\u0041\\n"}], "c": true, "d": null}';
  for (let length = 0; length < text.length; length++) {
    const error = assertThrows(() => parseJson(text.slice(0, length)), JsonError);
    const inWord = /[a-z\d.\-\\]$/.test(text.slice(0, length));
    assert(error.position === length || inWord, `cut at ${length}: ${error.position}`);
  }
});

Deno.test("Brackets inside strings do not count as nesting", () => {
  const text = JSON.stringify("[".repeat(1000) + '\\"' + "{".repeat(1000));
  assertEquals(parseJson(text), JSON.parse(text));
});

Deno.test("A long broken string is found without exhausting the stack", () => {
  const text = `["${"\\n".repeat(200_000)}`;
  assertEquals(assertThrows(() => parseJson(text), JsonError).position, text.length);
});

Deno.test("What is written is what JSON.stringify writes, but maps keep their order", () => {
  const value = { a: [1, null, "é\n", { b: undefined, c: -0 }], d: {}, e: [] };
  assertEquals(writeJson(value), JSON.stringify(value));
  assertEquals(writeJson(new Map<string, number>([["9", 1], ["1", 2]])), '{"9":1,"1":2}');
  assertEquals(writeJson([NaN, Infinity]), "[null,null]");
});
