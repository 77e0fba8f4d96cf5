/** Chat templates of real models, rendered as Python's Jinja2 3.1.6 in the reference environment. */

import { assertEquals, assertRejects } from "@std/assert";
import { ChatTemplateError } from "../../lib/base/errors.ts";
import { ChatTemplate } from "../../lib/text/chat_template.ts";
import type { TemplateMessage } from "../../lib/text/messages.ts";
import { vocabularyTest } from "../helpers/real_vocabularies.ts";

interface Conversation {
  readonly messages: readonly TemplateMessage[];
  readonly tools?: readonly Readonly<Record<string, unknown>>[];
  readonly add_generation_prompt: boolean;
  readonly [kwarg: string]: unknown;
}

const golden: {
  readonly cases: Readonly<Record<string, Conversation>>;
  /** null: the template refuses. */
  readonly renders: Readonly<Record<string, Readonly<Record<string, string | null>>>>;
} = JSON.parse(
  Deno.readTextFileSync(new URL("../golden/tokenizers/templates.json", import.meta.url)),
);

/** A special token is written as its text, or as an object that holds it. */
function textOf(token: unknown): unknown {
  return (token as { readonly content?: unknown } | null | undefined)?.content ?? token ??
    undefined;
}

for (const [name, renders] of Object.entries(golden.renders)) {
  vocabularyTest(name, `${name}'s chat template renders as in Python`, async ({ config }) => {
    const tokens = Object.fromEntries(
      ["bos_token", "eos_token", "pad_token", "unk_token"]
        .map((role) => [role, textOf(config[role])])
        .filter(([, text]) => text !== undefined),
    );
    const source = config["chat_template"] as string;
    using template = new ChatTemplate(source, { tokens, file: "tokenizer_config.json" });
    for (const [title, expected] of Object.entries(renders)) {
      const { messages, tools, add_generation_prompt: addGenerationPrompt, ...kwargs } = golden
        .cases[title] as Conversation;
      const options = { tools: tools ?? null, addGenerationPrompt, kwargs };
      const render = () => template.render(messages, options);
      if (expected === null) await assertRejects(render, ChatTemplateError);
      else assertEquals(await render(), expected, `${name}: ${title}`);
    }
  });
}
