/** JSON reading and writing: the position of a break, and the order of maps. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import {
  brokenTextPath,
  JsonError,
  JsonScan,
  memberSource,
  parseJson,
  writeJson,
} from "../../lib/openai/json.ts";

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

Deno.test("A text is looked at in pieces as it is in whole, wherever it is cut", () => {
  const deep = "[".repeat(129);
  const texts = ['{"a\\\\":["\\"[{,:", 1]}', `["\\\\\\"[", ${deep}`, `${deep}"`];
  const verdict = (pieces: readonly string[]) => {
    const scan = new JsonScan();
    try {
      for (const piece of pieces) scan.add(piece);
    } catch (error) {
      return (error as JsonError).position;
    }
  };
  for (const text of texts) {
    const expected = verdict([text]);
    assertEquals(verdict([...text]), expected, text);
    for (let at = 0; at <= text.length; at++) {
      assertEquals(verdict([text.slice(0, at), "", text.slice(at)]), expected, `${text} at ${at}`);
    }
  }
});

Deno.test("Too many values or keys are refused before they are parsed, long strings are not", () => {
  const refused = (text: string, message: string) =>
    assertThrows(() => parseJson(text), JsonError, message);
  refused(`[${"1,".repeat(1_048_576)}1]`, "more than 1048576 values");
  refused("[]".repeat(1_048_577), "more than 1048576 values");
  refused('{"a":1}'.repeat(131_073), "more than 131072 keys");
  assertEquals(parseJson(`"${",:[".repeat(1_000_000)}"`), ",:[".repeat(1_000_000));
  assertEquals((parseJson(`[${"1,".repeat(1_000_000)}1]`) as unknown[]).length, 1_000_001);
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

Deno.test("A number's digits are those of the outermost object's own member, the last of its name", () => {
  const source = (text: string) => memberSource(text, "seed");
  assertEquals(source('{"seed":9223372036854775807}'), "9223372036854775807");
  assertEquals(source('{"a":{"seed":1},"seed":2.50,"b":[{"seed":3}],"":{}}'), "2.50");
  assertEquals(source('{"seed":1,"seed":-2e3}'), "-2e3");
  assertEquals(source('{"a":{"seed":1}}'), undefined);
});

Deno.test("Half a character is found wherever it is, and whole ones are none", () => {
  const find = (text: string) => brokenTextPath(text, JSON.parse(text));
  assertEquals(find('{"a":["x",{"b":"\\ud800"}]}'), "a.1.b");
  assertEquals(find('{"a":{"\\udc00":1}}'), "a.\ufffd");
  assertEquals(find('{"a":"\\ud83d\\ude80","b":"\\\\ud800"}'), undefined);
  assertEquals(find('{"a":"\\u00e9"}'), undefined);
});
