/**
 * The components of a tokenizer.json as the package takes them.
 *
 * The format is that of the Rust library `tokenizers`. The package reads all of it, but some settings
 * it leaves out without a word, and some it takes otherwise. Those are put here in words that it
 * takes as they are meant; what it cannot do at all is refused by name.
 */

import { framePostProcessor, type FrameToken } from "./tokenizer_json.ts";
import { Component } from "./tokenizer_component.ts";
import { escapePattern, matchRule, readBehavior, splitRule } from "./split_rules.ts";

/** The parts of a tokenizer.json around its model. */
export interface ComponentsJson {
  readonly normalizer: unknown;
  readonly pre_tokenizer: unknown;
  readonly post_processor: unknown;
  readonly decoder: unknown;
}

/** Checks all of them; `idOf` finds a token of the vocabulary, an added one included. */
export function packageComponents(
  json: ComponentsJson,
  idOf: (token: string) => number | undefined,
  file: string,
): ComponentsJson {
  const read = (key: keyof ComponentsJson, read: (component: Component) => unknown) =>
    json[key] === null ? null : read(new Component(file, key, json[key]));
  return {
    normalizer: read("normalizer", normalizer),
    pre_tokenizer: read("pre_tokenizer", preTokenizer),
    post_processor: read("post_processor", (component) => postProcessor(component, idOf)),
    decoder: read("decoder", decoder),
  };
}

function unknown(component: Component, known: readonly string[]): never {
  component.fail("type", `supported are ${known.join(", ")}`);
}

/** `$` stands for itself in a file; in what a match is replaced by, it would begin a reference. */
function replace(component: Component): unknown {
  const content = component.string("content", "").replaceAll("$", "$$$$");
  return { type: "Replace", pattern: component.pattern(), content };
}

const NORMALIZERS: Readonly<Record<string, (component: Component) => unknown>> = {
  NFC: ({ json }) => json,
  NFD: ({ json }) => json,
  NFKC: ({ json }) => json,
  NFKD: ({ json }) => json,
  Lowercase: ({ json }) => json,
  StripAccents: ({ json }) => json,
  Replace: replace,
  Prepend: (component) => ({ type: "Prepend", prepend: component.string("prepend") }),
  Strip: (component) => ({
    type: "Strip",
    strip_left: component.boolean("strip_left", true),
    strip_right: component.boolean("strip_right", true),
  }),
  BertNormalizer(component) {
    for (const key of ["clean_text", "handle_chinese_chars", "strip_accents", "lowercase"]) {
      component.boolean(key, false);
    }
    return component.json;
  },
  Precompiled(component) {
    component.string("precompiled_charsmap", "");
    return component.json;
  },
  Sequence: (component) => ({
    type: "Sequence",
    normalizers: component.parts("normalizers").map(normalizer),
  }),
};

function normalizer(component: Component): unknown {
  const read = Object.hasOwn(NORMALIZERS, component.type) ? NORMALIZERS[component.type] : undefined;
  return read === undefined ? unknown(component, Object.keys(NORMALIZERS)) : read(component);
}

/** What Rust's regular expressions call a word's character. */
const WORD = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\p{Join_Control}";
const PUNCTUATION = "[\\p{P}\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e]";

const PRE_TOKENIZERS: Readonly<Record<string, (component: Component) => unknown>> = {
  BertPreTokenizer: ({ json }) => json,
  ByteLevel(component) {
    component.boolean("add_prefix_space", false);
    component.boolean("use_regex", true);
    return component.json;
  },
  // The package knows ASCII's letters and digits only.
  Whitespace: () => matchRule(`[${WORD}]+|[^${WORD}\\s]+`),
  WhitespaceSplit: () => matchRule("\\S+"),
  Metaspace: metaspace,
  Split: split,
  CharDelimiterSplit: (component) =>
    splitRule({ String: component.character("delimiter") }, "Removed"),
  Punctuation: (component) =>
    splitRule({ Regex: PUNCTUATION }, readBehavior(component, "Isolated")),
  Digits: (component) =>
    splitRule(
      { Regex: "\\p{N}" },
      component.boolean("individual_digits", false) ? "Isolated" : "Contiguous",
    ),
  FixedLength: (component) =>
    splitRule({ Regex: `[\\s\\S]{1,${component.integer("length", 1, 5)}}` }, "Isolated"),
  Sequence: (component) => ({
    type: "Sequence",
    pretokenizers: component.parts("pretokenizers").map(preTokenizer),
  }),
};

function preTokenizer(component: Component): unknown {
  const read = Object.hasOwn(PRE_TOKENIZERS, component.type)
    ? PRE_TOKENIZERS[component.type]
    : undefined;
  return read === undefined ? unknown(component, Object.keys(PRE_TOKENIZERS)) : read(component);
}

/** When a text gets a space in front. Old files have a flag for it. */
function prependScheme(component: Component): string {
  const flag = component.value("add_prefix_space") === undefined
    ? undefined
    : component.boolean("add_prefix_space", true);
  const scheme = component.string("prepend_scheme", flag === false ? "never" : "always");
  if (!["always", "first", "never"].includes(scheme)) {
    component.fail("prepend_scheme", 'it must be "always", "first" or "never"');
  }
  if (flag === false && scheme !== "never") {
    component.fail("prepend_scheme", 'add_prefix_space is false, so it must be "never"');
  }
  return scheme;
}

/** The package does not cut before each mark, as the format does unless it is told not to. */
function metaspace(component: Component): unknown {
  const replacement = component.character("replacement", "▁");
  const whole = { type: "Metaspace", replacement, prepend_scheme: prependScheme(component) };
  if (!component.boolean("split", true)) return whole;
  const cuts = splitRule({ String: replacement }, "MergedWithNext");
  return { type: "Sequence", pretokenizers: [whole, cuts] };
}

function split(component: Component): unknown {
  const pattern = component.pattern();
  const behavior = readBehavior(component);
  if (!component.boolean("invert", false)) return splitRule(pattern, behavior);
  // What is between matches is a piece of its own either way.
  if (behavior === "Isolated") return splitRule(pattern, behavior);
  if (behavior !== "Removed") {
    component.fail("invert", `beside the behavior ${behavior} it must be false`);
  }
  return matchRule("String" in pattern ? escapePattern(pattern.String) : pattern.Regex);
}

type FindId = (token: string) => number | undefined;

/** null where nothing is added. */
function postProcessor(component: Component, idOf: FindId): unknown {
  switch (component.type) {
    case "ByteLevel":
      return null; // it is about places in the text, which nobody asks for
    case "TemplateProcessing":
      return template(component, idOf);
    case "BertProcessing":
    case "RobertaProcessing":
      return framePostProcessor({
        begin: frameToken(component, "cls", idOf),
        end: frameToken(component, "sep", idOf),
        pair: component.type === "BertProcessing" ? "bert" : "roberta",
      });
    case "Sequence": {
      const parts = component.parts("processors")
        .map((part) => postProcessor(part, idOf))
        .filter((part) => part !== null);
      if (parts.length > 1) component.fail("processors", "at most one of them may add tokens");
      return parts[0] ?? null;
    }
    default:
      return unknown(component, [
        "ByteLevel",
        "TemplateProcessing",
        "BertProcessing",
        "RobertaProcessing",
        "Sequence",
      ]);
  }
}

/** A token and its id, in a list. */
function frameToken(component: Component, key: string, idOf: FindId): FrameToken {
  const [text, id] = component.list(key);
  if (typeof text !== "string" || typeof id !== "number") {
    component.fail(key, "it must be a token and its id");
  }
  if (idOf(text) !== id) {
    component.fail(key, `in the vocabulary the token has ${found(idOf(text))}`);
  }
  return { id, text };
}

const found = (id: number | undefined) => id === undefined ? "no id" : `the id ${id}`;

/** The package takes tokens by their text, whatever ids the file has for them. */
function template(component: Component, idOf: FindId): unknown {
  const tokens = component.value("special_tokens") ?? {};
  if (typeof tokens !== "object" || Array.isArray(tokens)) {
    component.fail("special_tokens", "it must be an object");
  }
  for (const key of ["single", "pair"]) {
    component.list(key).forEach((item, index) => {
      checkPiece(
        component,
        `${key}[${index}]`,
        item,
        (name) => checkSpecial(component, name, tokens as Readonly<Record<string, unknown>>, idOf),
      );
    });
  }
  return component.json;
}

function checkPiece(
  component: Component,
  place: string,
  item: unknown,
  checkToken: (name: string) => void,
): void {
  const { Sequence: text, SpecialToken: token } = (item ?? {}) as {
    readonly Sequence?: { readonly id?: unknown; readonly type_id?: unknown };
    readonly SpecialToken?: { readonly id?: unknown; readonly type_id?: unknown };
  };
  const piece = text ?? token;
  const isId = text !== undefined
    ? piece?.id === "A" || piece?.id === "B"
    : typeof piece?.id === "string";
  const type = piece?.type_id ?? 0;
  if (!isId || !Number.isInteger(type) || (type as number) < 0) {
    new Component(component.file, component.path, { type: component.type, [place]: item }).fail(
      place,
      'it must be {"Sequence": {"id": "A" or "B", "type_id": …}} or ' +
        '{"SpecialToken": {"id": …, "type_id": …}}',
    );
  }
  if (text === undefined) checkToken(piece?.id as string);
}

function checkSpecial(
  component: Component,
  name: string,
  tokens: Readonly<Record<string, unknown>>,
  idOf: FindId,
): void {
  const entry = Object.hasOwn(tokens, name) ? tokens[name] : undefined;
  const { ids, tokens: texts } = (entry ?? {}) as Readonly<Record<string, unknown>>;
  const [id] = Array.isArray(ids) ? ids : [];
  const isOne = Array.isArray(ids) && ids.length === 1 && Array.isArray(texts) &&
    texts.length === 1 && texts[0] === name;
  if (!isOne) {
    component.fail(
      "special_tokens",
      `for ${JSON.stringify(name)} it must have one id and one token, the same`,
    );
  }
  if (idOf(name) !== id) {
    component.fail(
      "special_tokens",
      `${JSON.stringify(name)} has the id ${id} there, and ${found(idOf(name))} in the vocabulary`,
    );
  }
}

const DECODERS: Readonly<Record<string, (component: Component) => unknown>> = {
  ByteLevel: ({ json }) => json,
  ByteFallback: ({ json }) => json,
  Fuse: ({ json }) => json,
  WordPiece: (component) => ({
    type: "WordPiece",
    prefix: component.string("prefix", "##"),
    cleanup: component.boolean("cleanup", true),
  }),
  // The package takes the first space away in any case.
  Metaspace(component) {
    const replacement = component.character("replacement", "▁");
    return prependScheme(component) === "never"
      ? { type: "Replace", pattern: { String: replacement }, content: " " }
      : { type: "Metaspace", replacement };
  },
  BPEDecoder(component) {
    const suffix = component.string("suffix", "</w>");
    if (suffix === "") component.fail("suffix", "it must not be empty");
    return { type: "BPEDecoder", suffix };
  },
  CTC(component) {
    for (const key of ["pad_token", "word_delimiter_token"]) component.string(key);
    component.boolean("cleanup", true);
    return component.json;
  },
  Replace: replace,
  Strip: (component) => ({
    type: "Strip",
    content: component.character("content"),
    start: component.integer("start", 0, 0),
    stop: component.integer("stop", 0, 0),
  }),
  Sequence: (component) => ({
    type: "Sequence",
    decoders: component.parts("decoders").map(decoder),
  }),
};

function decoder(component: Component): unknown {
  const read = Object.hasOwn(DECODERS, component.type) ? DECODERS[component.type] : undefined;
  return read === undefined ? unknown(component, Object.keys(DECODERS)) : read(component);
}
