/** Patterns that take exponential time are found; those that tokenizers have are not among them. */

import { assert, assertEquals } from "@std/assert";
import { isExponential } from "../../lib/base/regex_ambiguity.ts";
import { PRE_TOKENIZERS } from "../../lib/text/pre_tokenizers.ts";

const EXPONENTIAL = [
  "(a*)*b",
  "(a+)+$",
  "(a|a)*b",
  "(a|aa)+$",
  "(a|b|ab)*c",
  "(?:\\w+\\s?)+!",
  "([a-z]+)*=",
  "(x+x+)+y",
  "(\\p{L}|\\p{Lu})+!",
  "(?i:a|A)*b",
  "(?:[a-z]|[A-Z&&[^B-Z]]|\\w)*!",
  "^(([a-z])+.)+[A-Z]([a-z])+$",
  "(.*){12}x",
  "(?=(a+)+b)c",
  "(a{1,9}){1,9}b",
  "(?:a?b?)*c(?:(?:d|d)e)*",
  "((?:ab)*|a(?:ba)*b)*c",
];

const FINE = [
  "a",
  "",
  "[^]",
  "(a)(b)*(c+d)*",
  "a*a*a*b",
  "(?:ab|cd)*",
  "(?:a|b)*c",
  "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
  "((?!expert).)*$",
  "(?:(?!ab)[\\s\\S])*ab|[\\s\\S]+",
  "[a-z&&[^aeiou]]+",
  "(?:[a-z]+-)+",
  "(?:\\d{1,3},)*\\d{1,3}",
  "[\\p{Han}\\p{Hiragana}]+",
  "[[:alpha:]]+|[[:digit:]]+",
  "(?<word>\\w+)\\s\\k<word>",
  "\\x{41}+|\\u0041",
  "]a}",
  "(", // whoever compiles it will say so
  "a)",
  "[a",
];

Deno.test("Patterns whose loops can be passed in two ways are called exponential", () => {
  for (const pattern of EXPONENTIAL) assert(isExponential(pattern), pattern);
});

Deno.test("Patterns with one way through each loop are not, nor are those that cannot be read", () => {
  for (const pattern of FINE) assertEquals(isExponential(pattern), false, pattern);
  for (const [name, { patterns }] of PRE_TOKENIZERS) {
    for (const pattern of patterns) assertEquals(isExponential(pattern), false, name);
  }
});

Deno.test("A long pattern is looked through in good time", () => {
  const names = Array.from({ length: 2000 }, (_, i) => `word${i}`).join("|");
  assertEquals(isExponential(names), false);
  assert(isExponential(`(?:${names})*`), "too many ways to be sure");
  assertEquals(isExponential("(".repeat(500) + "a" + ")".repeat(500)), false);
  assertEquals(isExponential("a{3}".repeat(1000)), false);
  assertEquals(isExponential("a".repeat(20_000)), false);
});

Deno.test("A pattern that is too large to be looked through is said to be one", () => {
  const copies = (inner: string) => "(".repeat(20) + inner + "){4}".repeat(20);
  assert(isExponential(copies("a")));
  assert(isExponential(copies("")));
  assert(isExponential("a?".repeat(10_000)));
  assert(
    isExponential(String.fromCodePoint(...Array.from({ length: 9_000 }, (_, i) => 0x4e00 + i))),
  );
  assert(isExponential("(".repeat(9_000) + "a" + ")".repeat(9_000)));
});
