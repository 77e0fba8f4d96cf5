import { assert, assertEquals, assertThrows } from "@std/assert";
import { InvalidParameterError } from "../../lib/base/errors.ts";
import { PoolingParams, type PoolingParamsOptions } from "../../lib/pooling/params.ts";

Deno.test("PoolingParams keeps what is given and nothing else", () => {
  assertEquals(Object.keys(new PoolingParams()), []);
  const params = new PoolingParams({
    truncatePromptTokens: null,
    dimensions: 8,
    task: "token_embed",
  });
  assertEquals({ ...params }, { dimensions: 8, task: "token_embed" });
  assertEquals(Object.keys(PoolingParams.from({ normalize: null, task: undefined as never })), []);
  assert(Object.isFrozen(params));
});

Deno.test("PoolingParams accepts the edges of every range", () => {
  const edges: PoolingParamsOptions[] = [
    { truncatePromptTokens: -1 },
    { truncatePromptTokens: 0 },
    { truncatePromptTokens: 1 },
    { dimensions: 1 },
    { normalize: false },
    { useActivation: false },
    { task: "embed" },
    { task: "score" },
    { task: "classify" },
    { task: "token_classify" },
  ];
  for (const options of edges) assertEquals({ ...new PoolingParams(options) }, options);
});

Deno.test("PoolingParams names the field, the value and what would be right", () => {
  const refused: [PoolingParamsOptions, string, string][] = [
    [
      { truncatePromptTokens: -2 },
      "truncatePromptTokens",
      "truncatePromptTokens -2: it must be -1",
    ],
    [{ truncatePromptTokens: 1.5 }, "truncatePromptTokens", "an integer and at least 0"],
    [{ truncatePromptTokens: "3" as never }, "truncatePromptTokens", '"3"'],
    [{ dimensions: 0 }, "dimensions", "Cannot use dimensions 0: it must be an integer"],
    [{ dimensions: NaN }, "dimensions", "dimensions NaN"],
    [{ normalize: 1 as never }, "normalize", "true or false"],
    [{ normalize: null as never }, "normalize", "Cannot use normalize null"],
    [{ useActivation: "no" as never }, "useActivation", "true or false"],
    [{ task: "plugin" as never }, "task", '"embed", "score", "classify"'],
    [{ truncate_prompt_tokens: 3 } as never, "truncate_prompt_tokens", "truncatePromptTokens"],
    [{ dim: 3 } as never, "dim", "the fields are truncatePromptTokens, dimensions, normalize"],
  ];
  for (const [options, field, words] of refused) {
    const error = assertThrows(() => new PoolingParams(options), InvalidParameterError, words);
    assertEquals(error.parameter, field);
  }
});

Deno.test("PoolingParams copies, compares and prints what was given", () => {
  const params = new PoolingParams({ task: "embed", dimensions: 64, normalize: false });
  assertEquals(`${params}`, 'PoolingParams(dimensions=64, normalize=false, task="embed")');
  assert(PoolingParams.from(params) === params);
  assert(params.clone().equals(params));
  const changed = params.clone({ dimensions: undefined, truncatePromptTokens: -1 });
  assertEquals({ ...changed }, { truncatePromptTokens: -1, normalize: false, task: "embed" });
  assert(!changed.equals(params));
});

Deno.test("PoolingParams are made of fields, and of no names that every object has", () => {
  for (const value of [null, 5, "x", true, []]) {
    assertThrows(() => new PoolingParams(value as never), TypeError, "an object of fields");
  }
  for (const field of ["constructor", "toString"]) {
    const options = Object.fromEntries([[field, 1]]);
    assertThrows(() => new PoolingParams(options), InvalidParameterError, "no such field");
  }
});
