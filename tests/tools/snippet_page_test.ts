import { assertEquals, assertThrows } from "@std/assert";
import { isAsExpected, readPage } from "../../tools/checks/snippet_page.ts";

function block(info: string, content: string): string {
  return "```" + `${info}\n${content}\n` + "```\n";
}

Deno.test("A page's snippets are found with their server, their output and their line", () => {
  const page = [
    block("sh ignore", "pip install openai"),
    block("sh", `deno task serve --x '{"a": 1}' y`),
    "Words.\n",
    block("sh", "curl a"),
    block("json", "{}"),
    block("ts", "b();"),
    block("text", "…"),
    block("sh", "deno task serve"),
    block("python", "c()"),
    block("text", "1"),
  ].join("");
  assertEquals(readPage(page), [
    {
      serve: ["--x", '{"a": 1}', "y"],
      snippets: [
        { language: "sh", program: "curl a\n", expected: "{}\n", line: 8 },
        { language: "ts", program: "b();\n", expected: "…\n", line: 14 },
      ],
    },
    {
      serve: [],
      snippets: [{ language: "python", program: "c()\n", expected: "1\n", line: 23 }],
    },
  ]);
});

Deno.test("A snippet needs a server above it and its output below it", () => {
  const snippet = block("sh", "curl a");
  const server = block("sh", "deno task serve");
  assertThrows(() => readPage(snippet + block("text", "a")), SyntaxError, "line 1: no server");
  assertThrows(() => readPage(server + snippet), SyntaxError, "line 4: what does");
  assertThrows(() => readPage(server + snippet + server), SyntaxError, "line 4: what does");
});

Deno.test("An output is compared but for white space, and for what the page leaves open", () => {
  const good = [
    ["a\n  b\n", "a b"],
    ['{"id": "x1", "n": 3}', '{"id": "…", …}'],
    ["(a)[b].*", "(a)[b].*"],
    ["one two three", "…two…"],
    ["anything\nat all", "…"],
  ] as const;
  const bad = [
    ["a b", "a"],
    ["a", "a b"],
    ["axb", "a.b"],
    ["one three", "…two…"],
    ["", "a…"],
  ] as const;
  for (const [output, expected] of good) assertEquals(isAsExpected(output, expected), true, output);
  for (const [output, expected] of bad) assertEquals(isAsExpected(output, expected), false, output);
});
