/** `--config FILE`: a YAML file whose keys are flags, as the same words on a command line would be. */

import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { type Flag, type FlagValues, isSwitch } from "./flag.ts";
import { FlagError, flagValue, type Place } from "./flag_check.ts";
import { flagNamed, FLAGS } from "./flag_table.ts";
import { nearest } from "./nearest.ts";
import { unreadable } from "./unreadable.ts";

/** What a file asks for. */
export interface ConfigFile {
  readonly model: string | undefined;
  readonly values: FlagValues;
}

/** Flags that only a command line can give. */
const NOT_IN_FILES: readonly string[] = ["config", "help", "version"];
const MODEL_KEYS: readonly string[] = ["model", "model-tag"];

/**
 * Reads and checks a file of flags.
 *
 * @throws {FlagError} It cannot be read, is no YAML, or holds what is no flag; with the line
 */
export function readConfigFile(path: string, readFile: (path: string) => string): ConfigFile {
  let text: string;
  try {
    text = readFile(path);
  } catch (error) {
    throw new FlagError(`Cannot use --config "${path}": ${unreadable(error)}`);
  }
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const lineOf = (offset: number) => `"${path}" line ${lines.linePos(offset).line}`;
  const [mistake] = document.errors;
  if (mistake !== undefined) {
    throw new FlagError(`Cannot read ${lineOf(mistake.pos[0])}: ${mistake.message.split("\n")[0]}`);
  }
  const { contents } = document;
  if (contents === null || isScalar(contents) && contents.value === null) {
    return { model: undefined, values: {} };
  }
  if (!isMap<Node, Node | null>(contents)) {
    throw new FlagError(`Cannot use --config "${path}": it must hold lines such as "port: 8000"`);
  }
  let model: string | undefined;
  const values: Record<string, unknown> = {};
  for (const { key, value } of contents.items) {
    const line = lineOf(key.range?.[0] ?? 0);
    const given = isScalar(key) ? String(key.value) : "a list or map";
    const name = given.replaceAll("_", "-").replace(/^--/, "");
    const node = isAlias(value) ? value.resolve(document) ?? null : value;
    const place = { name: given, where: ` in ${line}` };
    if (MODEL_KEYS.includes(name)) {
      model = scalarText(node) ?? refuse(place, "it takes the name of a model");
      continue;
    }
    const flag = flagNamed(name);
    if (flag === undefined || NOT_IN_FILES.includes(flag.name)) throw unknownKey(place, name);
    values[flag.name] = flagValue(flag, textsOf(flag, node, place), place);
  }
  return { model, values };
}

function unknownKey({ name, where }: Place, spelled: string): FlagError {
  const known = [
    ...MODEL_KEYS,
    ...FLAGS.map((flag) => flag.name).filter((flag) => !NOT_IN_FILES.includes(flag)),
  ];
  const guess = nearest(spelled, known);
  const hint = guess === undefined ? "--help lists the flags" : `did you mean ${guess}?`;
  return new FlagError(`Unknown flag ${name}${where}: ${hint}`);
}

/** A node as the words that would follow the flag. */
function textsOf(flag: Flag, node: Node | null, place: Place): readonly string[] {
  const text = scalarText(node);
  if (text !== undefined) return [text];
  if (flag.isJson && (isMap(node) || isSeq(node))) return [JSON.stringify(node.toJSON())];
  if (flag.several && isSeq<Node | null>(node)) {
    return node.items.map((item) => scalarText(item) ?? refuse(place, "its list holds no words"));
  }
  return refuse(place, isSwitch(flag) ? "it takes true or false" : `it takes ${flag.value}`);
}

/** A text, number or boolean as it is written, so that `0.10` and `0123` stay what they are. */
function scalarText(node: Node | null): string | undefined {
  if (!isScalar(node) || node.value === null) return undefined;
  return typeof node.value === "string" ? node.value : node.source ?? String(node.value);
}

function refuse({ name, where }: Place, right: string): never {
  throw new FlagError(`Cannot use ${name}${where}: ${right}`);
}
