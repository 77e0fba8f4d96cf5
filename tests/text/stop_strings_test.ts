/** Stop strings against a search of the whole text: however it is cut, the same end. */

import { assert, assertEquals } from "@std/assert";
import { StopStrings, type StopStringsOptions } from "../../lib/text/stop_strings.ts";
import { type Random, withRandom } from "./vocabularies.ts";

interface Result {
  readonly text: string;
  readonly found: string | null;
}

const shown = { includeStop: true, minTokens: 0 };
const hidden = { includeStop: false, minTokens: 0 };

/** Pushes pieces, one a token; gives what was sent when. */
function push(
  pieces: readonly string[],
  options: StopStringsOptions,
): Result & { sent: string[] } {
  const search = new StopStrings(options);
  const sent: string[] = [];
  for (const [index, piece] of pieces.entries()) {
    sent.push(search.push(piece, index + 1));
    if (search.found !== null) break;
  }
  sent.push(search.finish());
  return { text: sent.join(""), found: search.found, sent };
}

/** The rule as it is written: grow the text by a unit at a time until it ends with a stop. */
function reference(pieces: readonly string[], options: StopStringsOptions): Result {
  const text = pieces.join("");
  const stops = options.stops.filter((stop) => stop.isWellFormed());
  const ignored = pieces.slice(0, options.minTokens).join("").length;
  for (let end = ignored + 1; end <= text.length; end++) {
    const found = stops.find((stop) => text.slice(0, end).endsWith(stop));
    if (found === undefined) continue;
    return { text: text.slice(0, options.includeStop ? end : end - found.length), found };
  }
  return { text, found: null };
}

/** Pieces of whole characters. */
function cutAt(text: string, cuts: readonly number[]): string[] {
  const characters = [...text];
  return [0, ...cuts].map((cut, i) => characters.slice(cut, cuts[i]).join(""));
}

function checkEveryCut(text: string, stops: readonly string[]): void {
  const length = [...text].length;
  for (const includeStop of [false, true]) {
    const options = { stops, includeStop, minTokens: 0 };
    const { text: whole, found } = reference([text], options);
    for (let first = 0; first <= length; first++) {
      for (let second = first; second <= length; second++) {
        const result = push(cutAt(text, [first, second]), options);
        const told = `${JSON.stringify(text)} cut at ${first}, ${second}, stops ${stops}`;
        assertEquals([result.text, result.found], [whole, found], told);
        for (const piece of result.sent) assert(piece.isWellFormed(), told);
      }
    }
  }
}

Deno.test("A stop string is found wherever the text is cut", () => {
  checkEveryCut("one two three", ["two"]);
  checkEveryCut("aaab aab", ["aab"]);
  checkEveryCut("ends with the stop", ["stop"]);
  checkEveryCut("nothing to find", ["absent"]);
  checkEveryCut("abcabcabd", ["abcabd", "cab"]);
  checkEveryCut("short", ["longer than the text"]);
});

Deno.test("Stops of emoji, Hangul and combining marks are found, and no character is halved", () => {
  checkEveryCut("a😀😁b😂", ["😂"]);
  checkEveryCut("👩‍👩‍👧 and 👩", ["👩‍👧"]);
  checkEveryCut("안녕하세요 세상", ["세요"]);
  checkEveryCut("e\u0301e\u0301a\u0308", ["a\u0308"]);
  checkEveryCut("cafe\u0301 b", ["e"]); // a mark of its own is a character of its own
  checkEveryCut("x😀", ["\ud83d", "\ude00"]); // halves are never found
});

Deno.test("The stop that is complete first wins, then the one named first", () => {
  const stops = ["hello world", "o w", "lo"];
  assertEquals(push(["hello world"], { stops, ...hidden }), {
    text: "hel",
    found: "lo",
    sent: ["hel", ""],
  });
  const tie = (stops: string[]) => push(["say hello"], { stops, ...hidden });
  assertEquals([tie(["lo", "hello"]).found, tie(["lo", "hello"]).text], ["lo", "say hel"]);
  assertEquals([tie(["hello", "lo"]).found, tie(["hello", "lo"]).text], ["hello", "say "]);
  checkEveryCut("hello world", stops);
});

Deno.test("The stop is shown where that is asked for, and nothing behind it", () => {
  assertEquals(push(["a ST", "OP b"], { stops: ["STOP"], ...shown }).text, "a STOP");
  assertEquals(push(["a ST", "OP b"], { stops: ["STOP"], ...hidden }).text, "a ");
});

Deno.test("One character less than the longest stop is held back, and comes at the end", () => {
  const pieces = ["ab", "cd", "😀f", "g"];
  const { sent } = push(pieces, { stops: ["wxyz", "x"], ...hidden });
  assertEquals(sent, ["", "a", "bc", "d", "😀fg"]);
  const { sent: all } = push(pieces, { stops: ["wxyz"], ...shown });
  assertEquals(all, [...pieces, ""]);
  assertEquals(push(pieces, { stops: ["x"], ...hidden }).sent, [...pieces, ""]);
  assertEquals(push(pieces, { stops: [], ...hidden }).sent, [...pieces, ""]);
});

Deno.test("A stop that is complete before there are more tokens than minTokens does not count", () => {
  const at = (minTokens: number) =>
    push(["a", "END", "b", "E", "ND", "c"], { stops: ["END"], includeStop: false, minTokens });
  assertEquals([at(0).text, at(1).text, at(2).text, at(3).text], ["a", "a", "aENDb", "aENDb"]);
  assertEquals(at(4).text, "aENDb"); // begun before, complete after
  assertEquals([at(5).text, at(5).found], ["aENDbENDc", null]);
});

Deno.test("After a stop nothing more is sent", () => {
  const search = new StopStrings({ stops: ["."], ...hidden });
  assertEquals(search.push("a.b", 1), "a");
  assertEquals([search.push("c", 2), search.finish(), search.found], ["", "", "."]);
});

const ALPHABET = ["a", "b", "ab", "é", "e\u0301", "😀", "😁", "👩‍👧", "한", "ᄒ", " "];

function randomText(random: Random, most: number): string {
  return Array.from({ length: 1 + random.below(most) }, () => random.pick(ALPHABET)).join("");
}

Deno.test("Random texts, cuts and stops end as the reference says, and nothing sent is taken back", () => {
  withRandom((random) => {
    for (let round = 0; round < 3000; round++) {
      const pieces = Array.from(
        { length: random.below(12) },
        () => random.below(4) === 0 ? "" : randomText(random, 3),
      );
      const options = {
        stops: Array.from({ length: 1 + random.below(4) }, () => randomText(random, 3)),
        includeStop: random.below(2) === 0,
        minTokens: random.below(5),
      };
      const told = JSON.stringify({ pieces, ...options });
      const result = push(pieces, options);
      const expected = reference(pieces, options);
      assertEquals([result.text, result.found], [expected.text, expected.found], told);
      assert(result.sent.every((piece) => piece.isWellFormed()), told);
    }
  });
});
