import { assertEquals } from "@std/assert";
import { parseArgs } from "@std/cli/parse-args";

Deno.test("parseArgs reads flags, values after = or a space, and the rest as positional", () => {
  assertEquals(
    { ...parseArgs(["--foo", "--bar=baz", "./quux.txt"], { string: ["bar"], boolean: ["foo"] }) },
    { foo: true, bar: "baz", _: ["./quux.txt"] },
  );
  assertEquals({ ...parseArgs(["--port", "80", "model"], { string: ["port"] }) }, {
    port: "80",
    _: ["model"],
  });
});

Deno.test("parseArgs keeps the text of a string flag, digits and equal signs too", () => {
  const options = { string: ["a"] } as const;
  assertEquals(parseArgs(["--a=007"], options).a, "007");
  assertEquals(parseArgs(["--a", "1e3"], options).a, "1e3");
  assertEquals(parseArgs(["--a=b=c"], options).a, "b=c");
  assertEquals(parseArgs(["--a=-5"], options).a, "-5");
  assertEquals(parseArgs(["--a"], options).a, "");
  assertEquals(parseArgs([], options).a, undefined);
});

Deno.test("parseArgs lets the last value of a flag win unless it is collected", () => {
  assertEquals(parseArgs(["--a=1", "--a=2"], { string: ["a"] }).a, "2");
  const collected = { string: ["a"], collect: ["a"] } as const;
  assertEquals(parseArgs(["--a=1", "--a", "2"], collected).a, ["1", "2"]);
  assertEquals(parseArgs([], collected).a, []);
});

Deno.test("parseArgs takes a boolean flag without eating what follows, and false when absent", () => {
  const options = { boolean: ["quick"] } as const;
  assertEquals({ ...parseArgs(["--quick", "model"], options) }, { quick: true, _: ["model"] });
  assertEquals(parseArgs([], options).quick, false);
  assertEquals(parseArgs(["--quick=false"], options).quick, false);
  assertEquals(parseArgs(["--quick=true"], options).quick, true);
});

Deno.test("parseArgs understands --no- only for flags that are negatable", () => {
  const options = { boolean: ["cache"], negatable: ["cache"], default: { cache: true } } as const;
  assertEquals(parseArgs([], options).cache, true);
  assertEquals(parseArgs(["--no-cache"], options).cache, false);
  assertEquals(parseArgs(["--cache"], options).cache, true);
  const plain: Record<string, unknown> = parseArgs(["--no-cache"], { boolean: ["no-cache"] });
  assertEquals([plain["no-cache"], plain["cache"]], [true, undefined]);
});

Deno.test("parseArgs gives an alias and its flag the same value", () => {
  const args: Record<string, unknown> = parseArgs(["-p", "80", "-h"], {
    string: ["port"],
    boolean: ["help"],
    alias: { port: "p", help: "h" },
  });
  assertEquals([args["port"], args["p"], args["help"], args["h"]], ["80", "80", true, true]);
});

Deno.test("parseArgs puts a default where a flag is absent", () => {
  const options = { string: ["host"], default: { host: "127.0.0.1" } } as const;
  assertEquals(parseArgs([], options).host, "127.0.0.1");
  assertEquals(parseArgs(["--host", "::1"], options).host, "::1");
});

Deno.test("parseArgs leaves everything after -- alone", () => {
  assertEquals({ ...parseArgs(["a", "--", "--b", "c"]) }, { _: ["a", "--b", "c"] });
  assertEquals({ ...parseArgs(["a", "--", "--b", "c"], { "--": true }) }, {
    _: ["a"],
    "--": ["--b", "c"],
  });
});

Deno.test("parseArgs tells of unknown flags, and drops those for which the answer is false", () => {
  const seen: unknown[][] = [];
  const args: Record<string, unknown> = parseArgs(["--known=1", "--odd=2", "--even"], {
    string: ["known"],
    unknown(...call: unknown[]) {
      seen.push(call);
      return false;
    },
  });
  assertEquals(args["known"], "1");
  assertEquals(["odd" in args, "even" in args], [false, false]);
  assertEquals(seen.map(([arg, key]) => [arg, key]), [["--odd=2", "odd"], ["--even", "even"]]);
});

Deno.test("parseArgs does not change its input", () => {
  const input = ["--a=1", "b"];
  parseArgs(input, { string: ["a"] });
  assertEquals(input, ["--a=1", "b"]);
});
