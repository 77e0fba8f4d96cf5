import {
  assert,
  assertEquals,
  assertRejects,
  assertStringIncludes,
  assertThrows,
} from "@std/assert";
import { ChatTemplateError, ClosedError, InvalidParameterError } from "../../lib/base/errors.ts";
import { FileSource } from "../../lib/models/formats/byte_source.ts";
import { readGgufHeader } from "../../lib/models/formats/gguf.ts";
import {
  ChatTemplate,
  type ChatTemplateOptions,
  type RenderOptions,
} from "../../lib/text/chat_template.ts";
import type { ContentFormat } from "../../lib/options.ts";
import type { TemplateMessage } from "../../lib/text/messages.ts";
import { TextWorker } from "../../lib/text/text_worker.ts";
import { Tokenizer } from "../../lib/text/tokenizer.ts";
import { modelTest } from "../helpers/smollm2.ts";

interface ChatGolden {
  readonly chat: readonly { messages: TemplateMessage[]; rendered: string; ids: number[] }[];
}

const golden: ChatGolden = JSON.parse(
  Deno.readTextFileSync(new URL("../golden/smollm2/golden.json", import.meta.url)),
);

async function render(
  source: string,
  messages: readonly TemplateMessage[] = [],
  options: RenderOptions = {},
  more: Partial<ChatTemplateOptions> = {},
): Promise<string> {
  using template = new ChatTemplate(source, { tokens: {}, file: "chat_template.jinja", ...more });
  return await template.render(messages, options);
}

const CONTENTS = "{% for m in messages %}[{{ m.role }}:{{ m.content }}]{% endfor %}";
const PARTS = "{% for m in messages %}[{{ m.role }}:" +
  "{% for part in m['content'] %}({{ part.text }}){% endfor %}]{% endfor %}";
const EITHER = "{% for m in messages %}[{% if m.content is string %}text {{ m.content }}" +
  "{% else %}{% for part in m.content %}({{ part.text }}){% endfor %}{% endif %}]{% endfor %}";

modelTest(
  "ChatTemplate renders SmolLM2's prompts exactly, and they encode exactly",
  async (path) => {
    using source = new FileSource(path);
    const { metadata } = readGgufHeader(source);
    const tokenizer = Tokenizer.fromGguf(metadata, path);
    using template = new ChatTemplate(metadata.get("tokenizer.chat_template") as string, {
      tokens: tokenizer.specialTokens,
      file: path,
    });
    for (const { messages, rendered, ids } of golden.chat) {
      const prompt = await template.render(messages, { addGenerationPrompt: true });
      assertEquals(prompt, rendered);
      assertEquals(tokenizer.encode(prompt, { addSpecialTokens: false }), ids);
    }
  },
);

Deno.test("The form of content can be set, whatever the template's text suggests", async () => {
  const messages = [{ role: "user", content: ["a", { type: "text", text: "b" }] }];
  const as = (contentFormat: ContentFormat, source: string) =>
    render(source, messages, {}, { contentFormat });
  assertEquals(await as("auto", EITHER), "[(a)(b)]");
  assertEquals(await as("string", EITHER), "[text a\nb]");
  const tested = "{% for m in messages %}{{ m.content is string }}{% endfor %}";
  assertEquals(await as("auto", tested), "True");
  assertEquals(await as("openai", tested), "False");
});

Deno.test("ChatTemplate passes the variables that the reference library passes", async () => {
  const source = "{{ bos_token }}|{{ eos_token is defined }}|{{ tools is none }}|" +
    "{{ documents is none }}|{{ add_generation_prompt }}|{{ thinking }}";
  assertEquals(
    await render(source, [], { kwargs: { thinking: "on" } }, { tokens: { bos_token: "<s>" } }),
    "<s>|False|True|True|False|on",
  );
  const tools = [{ type: "function", function: { name: "f" } }];
  assertEquals(
    await render(
      "{{ tools[0].function.name }}{{ documents|length }}{{ add_generation_prompt }}",
      [],
      {
        tools,
        documents: [{}, {}],
        addGenerationPrompt: true,
      },
    ),
    "f2True",
  );
  assertEquals(await render("{{ tools is none }}", [], { tools: [] }), "True");
});

Deno.test("ChatTemplate lets further variables win, and refuses names that are taken", async () => {
  const kwargs = { add_generation_prompt: true };
  assertEquals(await render("{{ add_generation_prompt }}", [], { kwargs }), "True");
  for (
    const name of ["messages", "range", "raise_exception", "true", "chat_template", "tokenize"]
  ) {
    const error = await assertRejects(
      () => render("", [], { kwargs: { [name]: 1 } }),
      ChatTemplateError,
    );
    assertStringIncludes(error.message, `"${name}"`);
  }
  const error = await assertRejects(
    () => render("", [], { kwargs: { deep: { f: () => 1 } } }),
    InvalidParameterError,
  );
  assertEquals(error.parameter, "chatTemplateKwargs");
});

Deno.test("ChatTemplate trims blocks as the reference library sets Jinja up", async () => {
  assertEquals(await render("a\n  {% if true %}\n  b\n  {% endif %}\nc\n"), "a\n  b\nc");
  assertEquals(await render("a\r\n{% if true %}\r\nb{% endif %}"), "a\nb");
  assertEquals(await render("{% generation %}x{% endgeneration %}"), "x");
});

Deno.test("ChatTemplate gives content as the template reads it", async () => {
  const text = { role: "user", content: "one" };
  const parts = { role: "user", content: [{ type: "text", text: "one" }, "two"] };
  const nothing = { role: "assistant", content: null };
  assertEquals(
    await render(CONTENTS, [text, parts, nothing]),
    "[user:one][user:one\ntwo][assistant:]",
  );
  assertEquals(
    await render(PARTS, [text, parts, nothing]),
    "[user:(one)][user:(one)(two)][assistant:]",
  );
  assertEquals(await render(EITHER, [text, parts, nothing]), "[text one][(one)(two)][text ]");
});

Deno.test("ChatTemplate gives content in a format that is asked for, whatever the template reads", async () => {
  const text = { role: "user", content: "one" };
  const parts = { role: "user", content: [{ type: "text", text: "one" }, "two"] };
  const shown = (contentFormat: "auto" | "string" | "openai") =>
    render(EITHER, [text, parts], {}, { contentFormat });
  assertEquals(await shown("auto"), "[text one][(one)(two)]");
  assertEquals(await shown("string"), "[text one][text one\ntwo]");
  assertEquals(await shown("openai"), "[(one)][(one)(two)]");
});

Deno.test("ChatTemplate sees that a template loops over content through names and macros", async () => {
  const parts = [{ role: "user", content: [{ type: "text", text: "x" }] }];
  const sources = [
    "{% set c = messages[0].content %}{% for p in c %}{{ p.text }}{% endfor %}",
    "{% for m in messages %}{% set c = m['content'] | list %}{% set d = c[0:] %}" +
    "{% for p in d %}{{ p.text }}{% endfor %}{% endfor %}",
    "{% macro show(it) %}{% for p in it %}{{ p.text }}{% endfor %}{% endmacro %}" +
    "{% for m in messages %}{{ show(m.content) }}{% endfor %}",
    "{% for m in messages %}{% for p in m.content if p.type == 'text' %}{{ p.text }}" +
    "{% endfor %}{% endfor %}",
  ];
  for (const source of sources) assertEquals(await render(source, parts), "x", source);
});

Deno.test("ChatTemplate joins the parts of tool results in every template", async () => {
  const messages = [{ role: "tool", content: [{ type: "text", text: "a" }, "b"] }];
  assertEquals(await render("{{ messages[0].content }}", messages), "a\nb");
  assertEquals(await render(`${PARTS}{{ messages[0].content }}`, messages), "[tool:()()()]a\nb");
});

Deno.test("ChatTemplate takes refusals and thoughts as text, and refuses pictures", async () => {
  const content = [
    { type: "refusal", refusal: "no" },
    { type: "thinking", thinking: "hm" },
    { type: "output_text", text: "yes" },
  ];
  assertEquals(await render(CONTENTS, [{ role: "assistant", content }]), "[assistant:no\nhm\nyes]");
  const picture = [{ type: "image_url", image_url: { url: "data:," } }];
  assertEquals(await render(CONTENTS, [{ role: "system", content: picture }]), "[system:]");
  const error = await assertRejects(
    () => render(CONTENTS, [{ role: "user", content: picture }]),
    InvalidParameterError,
  );
  assertStringIncludes(error.message, 'messages[0].content[0].type ("image_url")');
});

Deno.test("ChatTemplate gives tool calls with arguments as objects", async () => {
  const source =
    "{% for c in messages[0].tool_calls %}{{ c.function.arguments | tojson }};{% endfor %}";
  const call = (args: unknown) => ({ type: "function", function: { name: "f", arguments: args } });
  const message = (...calls: unknown[]) => [{ role: "assistant", tool_calls: calls }];
  const given = ['{"a": [1, "é"]}', "", "null", null, { b: 2 }];
  assertEquals(
    await render(source, message(...given.map(call))),
    '{"a": [1, "é"]};{};{};{};{"b": 2};',
  );
  assertEquals(await render("{{ messages[0].tool_calls is defined }}", message()), "False");
  const error = await assertRejects(
    () => render(source, message(call("{"))),
    InvalidParameterError,
  );
  assertStringIncludes(error.message, "messages[0].tool_calls[0].function.arguments");
});

Deno.test("ChatTemplate writes arguments that a template adds to a text as JSON", async () => {
  const source = "{{ '<' + messages[0].tool_calls[0].function.arguments + '>' }}";
  const calls = [{ function: { name: "f", arguments: '{"a":[1,null]}' } }];
  const prompt = await render(source, [{ role: "assistant", tool_calls: calls }]);
  assertEquals(prompt, '<{"a": [1, null]}>');
});

Deno.test("ChatTemplate shows reasoning under both of its names", async () => {
  const source = "{% for m in messages %}{{ m.reasoning }}={{ m.reasoning_content }};{% endfor %}";
  const messages = [
    { role: "assistant", content: "x", reasoning: "a" },
    { role: "assistant", content: "x", reasoning_content: "b" },
    { role: "assistant", content: "x", reasoning: "c", reasoning_content: "d" },
    { role: "assistant", content: "x", reasoning: null, reasoning_content: "e" },
    { role: "user", content: "x" },
  ];
  assertEquals(await render(source, messages), "a=a;b=b;c=c;e=e;=;");
});

Deno.test("ChatTemplate makes developers the system where it does not know them", async () => {
  const messages = [
    { role: "system", content: "s" },
    { role: "user", content: "u" },
    { role: "developer", content: [{ type: "text", text: "d" }] },
  ];
  assertEquals(await render(CONTENTS, messages), "[system:s\n\nd][user:u]");
  assertEquals(await render(PARTS, messages), "[system:(s\n\nd)][user:(u)]");
  assertEquals(
    await render(`{# developer #}${CONTENTS}`, messages),
    "[system:s][user:u][developer:d]",
  );
  // Without a developer the order is the caller's.
  assertEquals(await render(CONTENTS, messages.slice(0, 2).reverse()), "[user:u][system:s]");
});

Deno.test("ChatTemplate leaves the caller's messages as they are", async () => {
  const messages = [
    { role: "developer", content: "d" },
    {
      role: "assistant",
      content: null,
      tool_calls: [{ function: { name: "f", arguments: "{}" } }],
    },
  ];
  const before = structuredClone(messages);
  await render(CONTENTS, messages);
  assertEquals(messages, before);
});

Deno.test("ChatTemplate refuses what is no message, naming the place", async () => {
  const cases: [message: unknown, where: string][] = [
    [5, "messages[0]"],
    [{ content: "x" }, "messages[0].role"],
    [{ role: "user", content: 5 }, "messages[0].content"],
    [{ role: "user", content: [5] }, "messages[0].content[0]"],
    [{ role: "user", content: [{ type: "text", text: 5 }] }, "messages[0].content[0].text"],
    [{ role: "user", tool_calls: 5 }, "messages[0].tool_calls"],
    [{ role: "user", extra: [() => 1] }, "messages[0].extra[0]"],
  ];
  for (const [message, where] of cases) {
    const error = await assertRejects(
      () => render("", [message as TemplateMessage]),
      InvalidParameterError,
    );
    assertStringIncludes(error.message, `Cannot use ${where} `);
    assertEquals(error.parameter, "messages");
  }
  const loop: Record<string, unknown> = { role: "user" };
  loop["self"] = loop;
  await assertRejects(() => render("", [loop]), InvalidParameterError, "nested deeper");
});

Deno.test("ChatTemplate continues the final message where the template shows it", async () => {
  const source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</end>{% endfor %}";
  const trimming = source.replace("m.content", "m.content | trim");
  const messages = [{ role: "user", content: "hi" }, { role: "assistant", content: "It is " }];
  const options = { continueFinalMessage: true };
  assertEquals(await render(source, messages, options), "<user>hi</end><assistant>It is ");
  assertEquals(await render(trimming, messages, options), "<user>hi</end><assistant>It is");
  assertEquals(
    await render(PARTS, [{ role: "assistant", content: ["a", "b"] }], options),
    "[assistant:(a)(b",
  );
  await assertRejects(
    () => render("nothing", messages, options),
    ChatTemplateError,
    "does not show",
  );
  await assertRejects(() => render(source, [], options), ChatTemplateError, "no text to continue");
  await assertRejects(
    () => render(source, messages, { ...options, addGenerationPrompt: true }),
    ChatTemplateError,
    "choose one",
  );
});

Deno.test("ChatTemplate passes a template's own refusal on, word for word", async () => {
  const error = await assertRejects(
    () => render("{{ raise_exception('Roles must alternate') }}"),
    ChatTemplateError,
  );
  assertEquals(error.message, "Roles must alternate");
});

Deno.test("ChatTemplate tells where a template cannot be read", () => {
  const broken = [
    "{% if %}",
    "{{ 'open }}",
    "{% for x in y %}",
    "{{ x".repeat(3),
    `{{ ${"(".repeat(200_000)} }}`,
    "x".repeat(2_000_000),
    `{%${" ".repeat(5000)}if true %}{% endif %}`,
  ];
  for (const source of broken) {
    const error = assertThrows(
      () => new ChatTemplate(source, { tokens: {}, file: "my_model/chat_template.jinja" }),
      ChatTemplateError,
    );
    assertStringIncludes(error.message, '"my_model/chat_template.jinja"');
  }
});

Deno.test("ChatTemplate spells values as Python does", async () => {
  const value = { a: [1, 2.5, true, null, "it's", 'say "x"', "\n\u00a0é"], b: {} };
  const repr = `{'a': [1, 2.5, True, None, "it's", 'say "x"', '\\n\\xa0é'], 'b': {}}`;
  const cases: [source: string, text: string][] = [
    ["{{ value }}", repr],
    ["{{ value | string }}", repr],
    ["{{ 'x' ~ value.a[2] ~ none ~ 1 ~ missing }}", "xTrueNone1"],
    ["{{ none | trim }}|{{ none | string }}|{{ missing | trim }}", "None|None|"],
    [
      "{{ value | tojson }}",
      '{"a": [1, 2.5, true, null, "it\'s", "say \\"x\\"", "\\n\u00a0é"], "b": {}}',
    ],
    ["{{ (1, 'a') }}", "(1, 'a')"],
    ["{{ missing }}{{ missing.length }}", ""],
  ];
  for (const [source, text] of cases) {
    assertEquals(await render(source, [], { kwargs: { value } }), text, source);
  }
});

Deno.test("ChatTemplate loops over what is undefined, and over text, as Python does", async () => {
  const cases: [source: string, text: string][] = [
    ["{% for x in missing %}a{% else %}none{% endfor %}", "none"],
    ["{% for x in 'a😀' %}[{{ x }}]{% endfor %}", "[a][😀]"],
    ["{{ missing | length }}{{ missing | list }}{{ missing | join(',') }}", "0[]"],
    ["{{ 'abc' | first }}{{ 'abc' | last }}", "ac"],
    ["{% if [] | first %}x{% else %}y{% endif %}", "y"],
    ["{% for i in range(3000) %}{% if i > 2 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "012"],
    ["{% for i in range(6, 0, -2) %}{{ i }}{% endfor %}", "642"],
  ];
  for (const [source, text] of cases) assertEquals(await render(source), text, source);
});

Deno.test("ChatTemplate gives an empty list to templates that loop over tools unasked", async () => {
  const loop = "{% for t in tools %}{{ t.name }}{% endfor %}";
  assertEquals(await render(`${loop}.`), ".");
  assertEquals(
    await render(`{% if tools is none %}none{% endif %}{% if tools %}${loop}{% endif %}`),
    "none",
  );
});

Deno.test("ChatTemplate writes dates in English", async () => {
  const now = () => new Date(2026, 7, 5, 15, 4, 9); // local time, as Python's now()
  const format = "%A %a %d %-d %e %B %b %Y %y %H %I %p %M %S %j %F %T 100%% %Q";
  assertEquals(
    await render(`{{ strftime_now('${format}') }}`, [], {}, { now }),
    "Wednesday Wed 05 5  5 August Aug 2026 26 15 03 PM 04 09 217 2026-08-05 15:04:09 100% %Q",
  );
});

Deno.test("ChatTemplate stops templates that run, nest, write or hold too much", async () => {
  const grow = (step: string, start: string, end: string) =>
    `{% set ns = namespace(s=${start}) %}{% for i in range(99) %}{% set ns.s = ${step} %}{% endfor %}${end}`;
  const cases: [source: string, says: string][] = [
    ["{% for i in range(10**9) %}x{% endfor %}", "range() makes at most 100000"],
    [
      "{% for i in range(99999) %}{% for j in range(99999) %}{{ '' }}{% endfor %}{% endfor %}",
      "longer than 200 ms",
    ],
    [
      "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(50) }}",
      "longer than 200 ms",
    ],
    ["{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nests too deeply"],
    [`{{ ${"a ~ ".repeat(1200)}a }}`, "nests too deeply"],
    [grow("ns.s ~ ns.s", "'ab'", ""), "writes more than 100000"],
    [grow("ns.s + ns.s", "[1]", ""), "too many entries"],
    [grow("[ns.s, ns.s]", "[1]", "{{ ns.s }}"), "writes more than 100000"],
    [grow("[ns.s, ns.s]", "[1]", "{{ ns.s | tojson }}"), "writes more than 100000"],
    ["{% for i in range(90000) %}some text{% endfor %}", "writes more than 100000"],
  ];
  using worker = new TextWorker(); // one thread for all: it survives each of them
  for (const [source, says] of cases) {
    const timeoutMs = says.includes("200 ms") ? 200 : 20_000; // a busy machine hits no other bound late
    const error = await assertRejects(
      () => render(source, [], {}, { timeoutMs, outputLengthMax: 100_000, worker }),
      ChatTemplateError,
    );
    assertStringIncludes(error.message, says);
  }
  assertEquals(await render("still here", [], {}, { worker }), "still here");
});

Deno.test("ChatTemplate replaces a thread that is stuck in one operation, and others wait", async () => {
  // Every one of four million characters is replaced by a hundred: seconds without a step.
  const stuck = "{% set ns = namespace(s='a') %}{% for i in range(22) %}" +
    `{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s.replace('a', '${"b".repeat(100)}') }}`;
  using worker = new TextWorker();
  let ticks = 0;
  const ticking = setInterval(() => ticks++, 10);
  const first = assertRejects(
    () => render(stuck, [], {}, { worker, timeoutMs: 50 }),
    ChatTemplateError,
    "longer than 50 ms",
  );
  const second = render("second", [], {}, { worker });
  await first;
  assertEquals(await second, "second");
  clearInterval(ticking);
  // Half a second at least, in which the thread that serves everybody else was never held up.
  assert(ticks >= 10, `only ${ticks} ticks`);
});

Deno.test("ChatTemplate ends a render that nobody wants any more, and others go on", async () => {
  const endless =
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}";
  using worker = new TextWorker();
  using template = new ChatTemplate(endless, { tokens: {}, file: "t", worker, timeoutMs: 60_000 });
  const running = new AbortController();
  const queued = new AbortController();
  const left = [running, queued].map(({ signal }) => template.render([], { signal }));
  const settled = Promise.allSettled(left);
  const other = render("other", [], {}, { worker });
  await new Promise((resolve) => setTimeout(resolve, 50));
  queued.abort("the queued one left");
  running.abort("the running one left");
  assertEquals(await other, "other");
  assertEquals(await settled, [
    { status: "rejected", reason: "the running one left" },
    { status: "rejected", reason: "the queued one left" },
  ]);
  const gone = AbortSignal.abort("left before");
  const [late] = await Promise.allSettled([template.render([], { signal: gone })]);
  assertEquals(late, { status: "rejected", reason: "left before" });
});

Deno.test("ChatTemplate renders many conversations at once, each its own", async () => {
  using template = new ChatTemplate(CONTENTS, { tokens: {}, file: "t" });
  const prompts = await Promise.all(
    Array.from({ length: 50 }, (_, i) => template.render([{ role: "user", content: `${i}` }])),
  );
  assertEquals(prompts, Array.from({ length: 50 }, (_, i) => `[user:${i}]`));
});

Deno.test("ChatTemplate rejects what is under way when it is closed, and everything after", async () => {
  const template = new ChatTemplate("x", { tokens: {}, file: "t" });
  const pending = [template.render([]), template.render([])];
  const settled = Promise.allSettled(pending);
  await Promise.resolve();
  template.close();
  for (const result of await settled) {
    assert(result.status === "rejected" && result.reason instanceof ClosedError);
  }
  await assertRejects(() => template.render([]), ClosedError);
});

Deno.test("ChatTemplate leaves a shared thread open for the others", async () => {
  using worker = new TextWorker();
  for (let i = 0; i < 20; i++) { // more templates than a thread keeps compiled
    assertEquals(await render(`${i}`, [], {}, { worker }), `${i}`);
  }
});

Deno.test("ChatTemplate lets a process end that forgot to close it, after a while", async () => {
  const folder = new URL("../../lib/text/", import.meta.url);
  const program = `
    import { ChatTemplate } from "${new URL("chat_template.ts", folder)}";
    import { TextWorker } from "${new URL("text_worker.ts", folder)}";
    const worker = new TextWorker({ idleMs: 50 });
    const template = new ChatTemplate("{{ messages | length }}", { tokens: {}, file: "t", worker });
    console.log(await template.render([]));
    await new Promise((resolve) => setTimeout(resolve, 300)); // idle: the thread ends meanwhile
    console.log(await template.render([{ role: "user" }]));
  `;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-check",
      "--no-lock",
      `--config=${import.meta.dirname}/../../deno.json`,
      "-",
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(program));
  await input.close();
  const { code, stdout, stderr } = await child.output(); // waits until it has ended
  assertEquals(new TextDecoder().decode(stdout), "0\n1\n", new TextDecoder().decode(stderr));
  assertEquals(code, 0);
});
