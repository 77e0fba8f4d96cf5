/** A command line, and the file of flags it may name → checked values. */

import { parseArgs } from "@std/cli/parse-args";
import { readConfigFile } from "./config_file.ts";
import { type Flag, type FlagValues, isSwitch } from "./flag.ts";
import { FlagError, flagValue, quoted } from "./flag_check.ts";
import { FLAGS } from "./flag_table.ts";
import { nearest } from "./nearest.ts";

/** What a command line asks for. */
export type Command =
  | { readonly kind: "help" }
  | { readonly kind: "version" }
  /** A mistake; the message is one line. */
  | { readonly kind: "wrong"; readonly message: string }
  | { readonly kind: "serve"; readonly model: string | undefined; readonly values: FlagValues };

/** Reads a command line. A leading word `serve` is skipped, so that habits of others work. */
export function readCommand(
  args: readonly string[],
  readFile: (path: string) => string = Deno.readTextFileSync,
): Command {
  try {
    const command = parse(spread(args[0] === "serve" ? args.slice(1) : args));
    if (command.kind !== "serve" || command.values["config"] === undefined) return command;
    const { model, values } = readConfigFile(command.values["config"] as string, readFile);
    return {
      kind: "serve",
      model: command.model ?? model,
      values: { ...values, ...command.values },
    };
  } catch (error) {
    if (error instanceof FlagError) return { kind: "wrong", message: error.message };
    throw error;
  }
}

function parse(args: readonly string[]): Command {
  const parsed = parseArgs(args, {
    string: ["_", ...FLAGS.map((flag) => flag.name)],
    collect: FLAGS.map((flag) => flag.name),
    unknown(word: string, key?: string) {
      if (key !== undefined) throw unknownFlag(word);
    },
  }) as Readonly<Record<string, unknown>>;
  const texts = ({ name }: Flag) => parsed[name] as readonly string[] | undefined ?? [];
  const given = FLAGS.filter((flag) => texts(flag).length > 0);
  for (const kind of ["help", "version"] as const) {
    if (given.some(({ name }) => name === kind)) return { kind };
  }
  const [model, extra] = parsed["_"] as string[];
  if (extra !== undefined) {
    throw new FlagError(
      `Unexpected word ${quoted(extra)}: one MODEL is enough, flags begin with --`,
    );
  }
  const values = given.map((flag) => {
    const place = { name: `--${flag.name}`, where: "" };
    return [flag.name, flagValue(flag, texts(flag), place)] as const;
  });
  return { kind: "serve", model, values: Object.fromEntries(values) };
}

function unknownFlag(word: string): FlagError {
  const flag = word.split("=", 1)[0] as string;
  if (["--model", "-m"].includes(flag)) {
    return new FlagError(`Unknown flag ${flag}: MODEL is written without a flag before it`);
  }
  const known = FLAGS.flatMap(({ name, aliases = [] }) => [
    `--${name}`,
    ...aliases.filter((alias) => alias.startsWith("--")),
  ]);
  const negative = flag.startsWith("--no-")
    ? FLAGS.filter(isSwitch).map(({ name }) => `--no-${name}`)
    : [];
  const guess = nearest(flag, negative) ?? nearest(flag, known);
  const hint = guess === undefined ? "--help lists the flags" : `did you mean ${guess}?`;
  return new FlagError(`Unknown flag ${flag}: ${hint}`);
}

/**
 * Brings all spellings into one form, `--name=value`: other names of a flag, `--max_model_len`,
 * `-tp 4`, a switch and its `--no-` form. Once MODEL was seen, the words after a flag that may come
 * several times are all values of that flag.
 */
function spread(args: readonly string[]): string[] {
  const result: string[] = [];
  let hasModel = false;
  let current: Flag | undefined; // the flag the last words belong to
  let hasValue = true;
  const endFlag = () => {
    if (current === undefined || hasValue) return;
    throw new FlagError(`Cannot use --${current.name} without a value: it takes ${current.value}`);
  };
  for (const [index, arg] of args.entries()) {
    if (arg === "--") {
      endFlag();
      return [...result, ...args.slice(index)];
    }
    const found = arg.startsWith("-") ? spelledFlag(arg) : undefined;
    if (found !== undefined) {
      endFlag();
      current = found.flag;
      hasValue = found.value !== undefined;
      result.push(`--${current.name}${hasValue ? `=${found.value}` : ""}`);
    } else if (arg.startsWith("--") || arg.startsWith("-") && hasValue) {
      result.push(arg); // parseArgs tells of it
      current = undefined;
      hasValue = true;
    } else if (current !== undefined && !hasValue) {
      result[result.length - 1] += `=${arg}`; // so that a value may begin with a dash
      hasValue = true;
    } else if (current?.several && hasModel) {
      result.push(`--${current.name}=${arg}`);
    } else {
      result.push(arg);
      hasModel = true;
    }
  }
  endFlag();
  return result;
}

/** The flag that a word names, and the value in it; a switch has one in any case. */
function spelledFlag(
  word: string,
): { readonly flag: Flag; readonly value: string | undefined } | undefined {
  const [name = "", ...rest] = word.split("=");
  const value = rest.length === 0 ? undefined : rest.join("=");
  const dashed = name.startsWith("--") ? `--${name.slice(2).replaceAll("_", "-")}` : name;
  const flag = FLAGS.find((flag) => [`--${flag.name}`, ...flag.aliases ?? []].includes(dashed));
  if (flag !== undefined) return { flag, value: isSwitch(flag) ? value ?? "true" : value };
  if (!dashed.startsWith("--no-") || value !== undefined) return undefined;
  const positive = `--${dashed.slice("--no-".length)}`;
  const negated = FLAGS.find((flag) =>
    isSwitch(flag) && [`--${flag.name}`, ...flag.aliases ?? []].includes(positive)
  );
  return negated === undefined ? undefined : { flag: negated, value: "false" };
}
