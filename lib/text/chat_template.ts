/**
 * Messages → prompt text: the gate to `@huggingface/jinja`.
 *
 * ```text
 * messages ─normalize─▶ plain data ─worker─▶ tree walked within a budget ─▶ text
 *           messages.ts              text_worker.ts, render_budget.ts
 * ```
 *
 * The package differs from Python's Jinja, for which templates are written. Met here, by name:
 *
 * - *spelling*: what is printed, joined by `~` or filtered as text is spelled as Python does
 *   (`None`, `True`, `{'a': 1}`), and what is undefined as nothing
 * - *loops*: over something undefined they run zero times, over text by characters; the first or
 *   last entry of an empty list is undefined instead of breaking the engine
 * - *dates*: `strftime_now` writes English names, whatever the machine's language
 * - *tools*: a template that loops over `tools` without asking gets an empty list, not null
 * - *arguments*: an object that is added to a text by `+` is written as JSON, for templates that
 *   expect the arguments of tool calls as text; Python refuses
 * - *content*: never null; a list of parts or text, whichever the template reads (messages.ts)
 *
 * Not met: the tags raw, with, block, import, include and `{%+`; recursive loops, `loop.cycle`;
 * tests with arguments (`is in(…)`, `is eq(…)`); the filters sum, min, max, round, count, escape,
 * wordcount, truncate, select, reject, groupby, batch, random, format and `map` of a filter; string
 * methods beyond split, strip, replace, startswith, endswith and the case ones; `%` formatting,
 * `text * 3`, comparing texts by `<`, chained comparisons; lists compare by identity; 1.0 from
 * JSON is written 1; reading an attribute of something undefined is no error. All but the last
 * three end in a clear error.
 */

import { Environment, Interpreter, parse, tokenize } from "@huggingface/jinja";
import { ChatTemplateError } from "../base/errors.ts";
import {
  normalizeMessages,
  plainData,
  type PlainMessage,
  type TemplateMessage,
} from "./messages.ts";
import { measureText, pythonText, strftime, type TemplateValue } from "./python_text.ts";
import { RenderBudget, RenderLimitError, type RenderLimits } from "./render_budget.ts";
import {
  type NodeRole,
  readFacts,
  type TemplateFacts,
  type TemplateNode,
} from "./template_facts.ts";
import { type RenderRequest, TextWorker } from "./text_worker.ts";

/** What a template is made with. */
export interface ChatTemplateOptions {
  /** `bos_token`, `eos_token` and so on: variables of the template. */
  readonly tokens: Readonly<Record<string, string>>;
  /** Where the template comes from, as errors name it. */
  readonly file: string;
  /** A call brought it, and not the model: errors of the template are of that parameter. */
  readonly parameter?: "chatTemplate";
  /**
   * How the template is given a message's content: as one text, or as OpenAI's list of parts.
   * Default "auto": whichever it reads.
   */
  readonly contentFormat?: "auto" | "string" | "openai";
  /** Longest render. Default 5000. */
  readonly timeoutMs?: number;
  /** Most characters (UTF-16 code units) of a prompt. Default 4,194,304. */
  readonly outputLengthMax?: number;
  /** The thread to render in, shared and closed by the caller. Default: one of its own. */
  readonly worker?: TextWorker;
  /** What `strftime_now` shows. Default: the time of the render. */
  readonly now?: () => Date;
}

/** What a conversation is rendered with. */
export interface RenderOptions {
  readonly tools?: readonly Readonly<Record<string, unknown>>[] | null;
  readonly documents?: readonly Readonly<Record<string, unknown>>[] | null;
  /** End with the header of the assistant's turn. Default false. */
  readonly addGenerationPrompt?: boolean;
  /** End right after the last message's content, so that the model goes on with it. Default false. */
  readonly continueFinalMessage?: boolean;
  /** Further variables; they win over the others. */
  readonly kwargs?: Readonly<Record<string, unknown>>;
  /** Ends the render; it is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Longer texts are no chat templates. */
const SOURCE_LENGTH_MAX = 1024 * 1024;
/** The package's lexer takes time that is quadratic in the length of a run of white space. */
const SPACE_RUN_MAX = 1000;

/** Names that mean something to every template, and the two that the reference library refuses. */
const RESERVED = new Set([
  "messages",
  "true",
  "false",
  "none",
  "True",
  "False",
  "None",
  "namespace",
  "range",
  "raise_exception",
  "strftime_now",
  "chat_template",
  "tokenize",
]);

/** A chat template, checked and ready to render. Close it: the thread it renders in is a resource. */
export class ChatTemplate implements Disposable {
  #source: string;
  #facts: TemplateFacts;
  #options: ChatTemplateOptions;
  #worker: TextWorker;
  #ownsWorker: boolean;

  /** The template's text. */
  get source(): string {
    return this.#source;
  }

  /** @throws {ChatTemplateError} if `source` is no template, naming `options.file`. */
  constructor(source: string, options: ChatTemplateOptions) {
    this.#source = source;
    this.#options = options;
    try {
      this.#facts = new CompiledTemplate(source).facts;
    } catch (error) {
      const { file, parameter } = options;
      const what = parameter === undefined
        ? `Cannot read the chat template of "${file}"`
        : `Cannot use ${parameter}`;
      // The package reads on where a template ends too early.
      const reason = error instanceof TypeError
        ? "it ends before a tag or a block is closed"
        : (error as Error).message;
      throw new ChatTemplateError(`${what}: ${reason}`, {
        cause: error,
        ...(parameter && { parameter }),
      });
    }
    this.#ownsWorker = options.worker === undefined;
    this.#worker = options.worker ?? new TextWorker();
  }

  /**
   * A conversation as a prompt. How large it may be is the caller's to bound; how long the
   * template takes over it, and how much it writes, is bounded here.
   *
   * @throws {InvalidParameterError} if a message, tool or document is malformed.
   * @throws {ChatTemplateError} if the template refuses, fails or goes over a bound.
   */
  async render(
    messages: readonly TemplateMessage[],
    options: RenderOptions = {},
  ): Promise<string> {
    const { continue_final_message: goesOn, ...kwargs } = this.#readKwargs(options.kwargs);
    const { contentFormat = "auto" } = this.#options;
    const isAuto = contentFormat === "auto";
    const plain = await normalizeMessages(messages, {
      contentAsParts: isAuto ? this.#facts.loopsOverContent : contentFormat === "openai",
      takesTextContent: isAuto && this.#facts.takesTextContent,
      namesDeveloper: this.#facts.namesDeveloper,
    });
    const variables: Record<string, unknown> = {
      ...this.#options.tokens,
      messages: plain,
      tools: listOrNull(options.tools, "tools") ?? (this.#facts.needsToolList ? [] : null),
      documents: listOrNull(options.documents, "documents"),
      add_generation_prompt: options.addGenerationPrompt ?? false,
      ...kwargs,
    };
    if (!(goesOn ?? options.continueFinalMessage ?? false)) {
      return await this.#run(variables, options.signal);
    }
    if (variables["add_generation_prompt"] === true) {
      throw new ChatTemplateError(
        "Cannot add a generation prompt and continue the final message: choose one",
      );
    }
    const { marker, text } = markFinalMessage(plain);
    return cutAtMarker(await this.#run(variables, options.signal), marker, text);
  }

  /** Ends the thread, unless it is shared. Renders under way are rejected with a `ClosedError`. */
  close(): void {
    if (this.#ownsWorker) this.#worker.close();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  async #run(
    variables: Readonly<Record<string, unknown>>,
    signal: AbortSignal | undefined,
  ): Promise<string> {
    const request: RenderRequest = {
      source: this.#source,
      variables,
      nowMs: (this.#options.now?.() ?? new Date()).getTime(),
      timeoutMs: this.#options.timeoutMs ?? 5000,
      outputLengthMax: this.#options.outputLengthMax ?? 4 * 1024 * 1024,
    };
    const { parameter } = this.#options;
    try {
      return await this.#worker.render(request, signal);
    } catch (error) {
      if (parameter === undefined || !(error instanceof ChatTemplateError)) throw error;
      throw new ChatTemplateError(error.message, { cause: error, parameter });
    }
  }

  #readKwargs(kwargs: Readonly<Record<string, unknown>> = {}): Record<string, unknown> {
    for (const name of Object.keys(kwargs)) {
      if (RESERVED.has(name)) {
        throw new ChatTemplateError(
          `Cannot pass "${name}" to the chat template: the name is taken`,
          { parameter: "chatTemplateKwargs" },
        );
      }
    }
    return plainData(kwargs, "chatTemplateKwargs") as Record<string, unknown>;
  }
}

/** A parsed template. Used where it is parsed and, in the text worker, where it is run. */
export class CompiledTemplate {
  readonly facts: TemplateFacts;
  #program: ReturnType<typeof parse>;

  /** @throws {Error} with the parser's own message. */
  constructor(source: string) {
    if (source.length > SOURCE_LENGTH_MAX) {
      throw new SyntaxError(`it is longer than ${SOURCE_LENGTH_MAX} characters`);
    }
    if (new RegExp(`\\s{${SPACE_RUN_MAX + 1}}`).test(source)) {
      throw new SyntaxError(`it has more than ${SPACE_RUN_MAX} characters of white space in a row`);
    }
    // Python's lexer makes line ends alike, and the options are those of the reference library.
    const tokens = tokenize(source.replaceAll(/\r\n?/g, "\n"), {
      lstrip_blocks: true,
      trim_blocks: true,
    });
    this.#program = parse(tokens);
    this.facts = readFacts(this.#program as unknown as TemplateNode, source);
  }

  /** Runs the template on the calling thread. */
  render(request: Omit<RenderRequest, "source">): string {
    const budget = new RenderBudget(request);
    const environment = new Environment();
    const globals = { ...createGlobals(budget, new Date(request.nowMs)), ...request.variables };
    for (const [name, value] of Object.entries(globals)) environment.set(name, value);
    try {
      const interpreter = new GuardedInterpreter(environment, budget, this.facts.roles);
      const text = interpreter.run(this.#program).value as string;
      budget.checkText(text.length);
      return text;
    } catch (error) {
      throw nameLimit(error, request);
    }
  }
}

/** The engine's own limits, said in our words. */
function nameLimit(error: unknown, limits: RenderLimits): unknown {
  if (!(error instanceof RangeError)) return error;
  if (error.message.includes("call stack")) return new RenderLimitError("it nests too deeply");
  if (error.message.includes("string length")) {
    return new RenderLimitError(`it writes more than ${limits.outputLengthMax} characters`);
  }
  return error;
}

/** Thrown by a template's own `raise_exception`. */
class TemplateRaised extends Error {
  override name = "TemplateRaised";
}

function createGlobals(budget: RenderBudget, now: Date): Record<string, unknown> {
  return {
    true: true,
    false: false,
    none: null,
    True: true,
    False: false,
    None: null,
    raise_exception: (message: unknown) => {
      throw new TemplateRaised(String(message));
    },
    range: (start: number, stop?: number, step?: number) => budget.range(start, stop, step),
    strftime_now: (format: unknown) => strftime(now, String(format)),
  };
}

type Value = ReturnType<Interpreter["evaluate"]>;
type Statement = Parameters<Interpreter["evaluate"]>[0];

/** Nodes whose value may be a new text or list, as against one that is there already. */
const MAKERS = new Set([
  "ArrayLiteral",
  "TupleLiteral",
  "BinaryExpression",
  "FilterExpression",
  "CallExpression",
]);

/** The package's interpreter, counting what it does and mending values on their way (see above). */
class GuardedInterpreter extends Interpreter {
  #budget: RenderBudget;
  #roles: ReadonlyMap<object, NodeRole>;

  constructor(
    environment: Environment,
    budget: RenderBudget,
    roles: ReadonlyMap<object, NodeRole>,
  ) {
    super(environment);
    this.#budget = budget;
    this.#roles = roles;
  }

  /** Every node passes here: the package calls this method for all that it evaluates. */
  override evaluate(statement: Statement, environment: Environment): Value {
    this.#budget.enter();
    let value: Value;
    try {
      // An empty list has no first entry, for which the package returns no value at all.
      value = super.evaluate(statement, environment) ?? toValue(undefined);
    } finally {
      this.#budget.leave();
    }
    this.#count(statement, value);
    const role = statement === undefined ? undefined : this.#roles.get(statement);
    return role === undefined ? value : this.#mend(value, role);
  }

  #count(statement: Statement, value: Value): void {
    const made = statement !== undefined && (MAKERS.has(statement.type) || isSlice(statement));
    if (value.type === "StringValue") {
      const { length } = value.value as string;
      this.#budget.checkText(length);
      if (made) this.#budget.makeText(length);
    } else if (made && Array.isArray(value.value)) {
      this.#budget.makeList(value.value.length);
    }
  }

  #mend(value: Value, role: NodeRole): Value {
    const isText = value.type === "StringValue";
    const isUndefined = value.type === "UndefinedValue";
    switch (role) {
      case "printed": {
        const text = isText || isUndefined ? value : this.#spell(value);
        if (!isUndefined) this.#budget.print((text.value as string).length);
        return text;
      }
      case "text":
        return isText ? value : this.#spell(value);
      case "iterated":
        if (!isText) return isUndefined ? toValue([]) : value;
        this.#budget.makeList((value.value as string).length);
        return toValue([...value.value as string]);
      case "counted":
        return isUndefined ? toValue("") : value;
      case "serialized":
        this.#measure(value);
        return value;
      case "added":
        if (!(value.value instanceof Map)) return value;
        this.#measure(value);
        return toValue(value.toString()); // which is JSON
      default:
        return role satisfies never;
    }
  }

  #spell(value: Value): Value {
    this.#measure(value);
    return toValue(pythonText(value as TemplateValue));
  }

  #measure(value: Value): void {
    let length = 0;
    measureText(value as TemplateValue, (more) => {
      this.#budget.step();
      length += more;
      this.#budget.checkText(length);
    });
  }
}

function isSlice(statement: NonNullable<Statement>): boolean {
  const { property } = statement as unknown as TemplateNode;
  return statement.type === "MemberExpression" &&
    (property as TemplateNode).type === "SliceExpression";
}

/** Plain data as a value of the engine, whose classes the package keeps to itself. */
function toValue(data: unknown): Value {
  return new Environment().set("value", data);
}

function listOrNull(value: unknown, where: string): unknown {
  if (value === undefined || value === null) return null;
  if (!Array.isArray(value)) throw new TypeError(`Cannot use ${where}: it must be a list`);
  return value.length === 0 ? null : plainData(value, where);
}

/**
 * Appends a marker to the text of the last message. The marker ends in a space: where the space is
 * gone in the prompt, the template trims messages, and so must the end of the prompt be.
 */
function markFinalMessage(messages: readonly PlainMessage[]): { marker: string; text: string } {
  const final = messages.at(-1);
  const all = JSON.stringify(messages);
  let marker = "FINAL_MESSAGE_ENDS_HERE ";
  for (let i = 0; all.includes(marker.trim()); i++) marker = `FINAL_MESSAGE_ENDS_HERE_${i}_ `;
  if (typeof final?.["content"] === "string") {
    const text = final["content"];
    final["content"] = text + marker;
    return { marker, text };
  }
  const parts = Array.isArray(final?.["content"]) ? final["content"] : [];
  const part = parts.findLast((candidate) => typeof candidate.text === "string");
  if (part === undefined) {
    throw new ChatTemplateError("Cannot continue the final message: it has no text to continue");
  }
  const { text } = part;
  part.text = text + marker;
  return { marker, text };
}

function cutAtMarker(rendered: string, marker: string, text: string): string {
  const index = rendered.lastIndexOf(marker.trim());
  if (index < 0 || !rendered.includes(text.trim())) {
    throw new ChatTemplateError(
      "Cannot continue the final message: the chat template does not show it as it is",
    );
  }
  const kept = rendered.slice(0, index);
  return rendered.startsWith(marker, index) ? kept : kept.trimEnd();
}
