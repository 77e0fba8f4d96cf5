/**
 * A small WebAssembly assembler: typed expressions in, a module over one shared memory out.
 *
 * An expression (`Expr<"v128">`) is the code that leaves one value on the stack, a statement the
 * code that leaves none. Instructions are functions from expressions to expressions
 * (`instructions.ts`); this file holds what surrounds them: locals, control flow, functions,
 * modules.
 *
 * An expression is emitted wherever it is used: one that is used twice runs twice. What should run
 * once goes into a local.
 */

import { type Code, flatten, name, section, signed, unsigned, vector } from "./encoding.ts";
import { invariant } from "../../base/invariant.ts";

/** The value types the kernels use. */
export type ValueType = "i32" | "f32" | "v128";

/** Code that leaves one value of type `T`. */
export interface Expr<T extends ValueType> {
  readonly type: T;
  readonly code: Code;
}

/** A parameter or variable of a function; as an expression, its value. */
export interface Local<T extends ValueType> extends Expr<T> {
  readonly index: number;
}

/** An i32 expression, or a constant. */
export type I32 = Expr<"i32"> | number;

/** Code that leaves nothing on the stack. */
export interface Statement {
  readonly type: "none";
  readonly code: Code;
}

/** Statements in order; nesting means nothing. */
export type Body = readonly (Statement | Body)[];

const TYPE_CODES: Readonly<Record<ValueType, number>> = { i32: 0x7f, f32: 0x7d, v128: 0x7b };
const EMPTY_BLOCK_TYPE = 0x40;
const END = 0x0b;

/** An expression from its code. For `instructions.ts`; kernels compose instructions. */
export function expression<T extends ValueType>(type: T, code: Code): Expr<T> {
  return { type, code };
}

/** A statement from its code. */
export function statement(code: Code): Statement {
  return { type: "none", code };
}

/** The code of an i32 operand, constant or not. */
export function operand(value: I32): Code {
  return typeof value === "number" ? [0x41, signed(value)] : value.code;
}

/** A body as one statement. */
export function sequence(...body: Body): Statement {
  const code: Code[] = [];
  const visit = (part: Body): void => {
    for (const item of part) {
      if ("code" in item) code.push(item.code);
      else visit(item);
    }
  };
  visit(body);
  return statement(code);
}

/** local = value. */
export function set<T extends ValueType>(local: Local<T>, value: Expr<T>): Statement {
  return statement([value.code, 0x21, unsigned(local.index)]);
}

/** local = value, for an i32 that may be a constant. */
export function setI32(local: Local<"i32">, value: I32): Statement {
  return statement([operand(value), 0x21, unsigned(local.index)]);
}

/** local += amount. */
export function increment(local: Local<"i32">, amount: I32): Statement {
  return statement([local.code, operand(amount), 0x6a, 0x21, unsigned(local.index)]);
}

/** Leaves the function's result on the stack: the last statement of a function that has one. */
export function result(value: Expr<ValueType>): Statement {
  return statement(value.code);
}

/** A block that {@linkcode branch} leaves. */
export function block(...body: Body): Statement {
  return statement([0x02, EMPTY_BLOCK_TYPE, sequence(...body).code, END]);
}

/** A loop that {@linkcode branch} starts anew; without a branch it runs once. */
export function loop(...body: Body): Statement {
  return statement([0x03, EMPTY_BLOCK_TYPE, sequence(...body).code, END]);
}

/** To the `depth`-th enclosing block or loop, counted from the inside. */
export function branch(depth: number): Statement {
  return statement([0x0c, unsigned(depth)]);
}

/** {@linkcode branch} if the condition is not zero. */
export function branchIf(depth: number, condition: I32): Statement {
  return statement([operand(condition), 0x0d, unsigned(depth)]);
}

/** if (condition) { then } else { otherwise } */
export function when(condition: I32, then: Body, otherwise: Body = []): Statement {
  const alternative = otherwise.length === 0 ? [] : [0x05, sequence(...otherwise).code];
  return statement([
    operand(condition),
    [0x04, EMPTY_BLOCK_TYPE],
    sequence(...then).code,
    alternative,
    END,
  ]);
}

/** do { body } while (condition) */
export function doWhile(condition: I32, ...body: Body): Statement {
  return loop(...body, branchIf(0, condition));
}

/** while (condition) { body } */
export function whileTrue(condition: Expr<"i32">, ...body: Body): Statement {
  return when(condition, [doWhile(condition, ...body)]);
}

/** A function that other functions of its module can call. */
export interface FunctionRef<
  P extends readonly ValueType[] = readonly ValueType[],
  R extends ValueType | "none" = ValueType | "none",
> {
  readonly name: string;
  readonly index: number;
  readonly params: P;
  readonly result: R;
}

type Locals<P extends readonly ValueType[]> = { -readonly [I in keyof P]: Local<P[I]> };
type Arguments<P extends readonly ValueType[]> = {
  -readonly [I in keyof P]: P[I] extends "i32" ? I32 : Expr<P[I]>;
};

/** Calls a function that returns nothing. */
export function call<P extends readonly ValueType[]>(
  callee: FunctionRef<P, "none">,
  ...args: Arguments<P>
): Statement {
  return statement([args.map(argumentCode), 0x10, unsigned(callee.index)]);
}

/** Calls a function for its result. */
export function callFor<P extends readonly ValueType[], R extends ValueType>(
  callee: FunctionRef<P, R>,
  ...args: Arguments<P>
): Expr<R> {
  return expression(callee.result, [args.map(argumentCode), 0x10, unsigned(callee.index)]);
}

function argumentCode(value: I32 | Expr<ValueType>): Code {
  return typeof value === "number" ? operand(value) : value.code;
}

/** Hands out the locals of one function. */
export class FunctionScope {
  readonly #paramCount: number;
  readonly #types: ValueType[] = [];

  constructor(paramCount: number) {
    this.#paramCount = paramCount;
  }

  /** A new variable; WebAssembly sets it to zero when the function is entered. */
  local<T extends ValueType>(type: T): Local<T> {
    this.#types.push(type);
    return localAt(type, this.#paramCount + this.#types.length - 1);
  }

  /** Several new variables. */
  locals<T extends ValueType>(type: T, count: number): Local<T>[] {
    return Array.from({ length: count }, () => this.local(type));
  }

  /** The declaration of the variables: runs of one type. */
  declaration(): Code {
    const runs: { type: ValueType; count: number }[] = [];
    for (const type of this.#types) {
      const last = runs.at(-1);
      if (last?.type === type) last.count++;
      else runs.push({ type, count: 1 });
    }
    return vector(runs.map((run) => [unsigned(run.count), TYPE_CODES[run.type]]));
  }
}

function localAt<T extends ValueType>(type: T, index: number): Local<T> {
  return { type, index, code: [0x20, unsigned(index)] };
}

/** A function as JavaScript sees it. */
export type Linked = (...args: number[]) => number;

/** A module that runs. */
export class LinkedModule {
  readonly #exports: WebAssembly.Exports;

  constructor(exports: WebAssembly.Exports) {
    this.#exports = exports;
  }

  /** The function behind a reference; look it up once and keep it. */
  get(ref: FunctionRef): Linked {
    return this.#exports[ref.name] as Linked;
  }
}

/** Gathers functions and turns them into a module that imports `env.memory`. */
export class ModuleBuilder {
  readonly #functions: { ref: FunctionRef; code: Code }[] = [];

  /**
   * Defines a function. `build` gets the scope for locals and the parameters, and returns the
   * body. Only functions defined earlier can be called.
   */
  define<const P extends readonly ValueType[], R extends ValueType | "none">(
    functionName: string,
    params: P,
    resultType: R,
    build: (scope: FunctionScope, ...params: Locals<P>) => Body,
  ): FunctionRef<P, R> {
    const scope = new FunctionScope(params.length);
    const locals = params.map((type, index) => localAt(type, index)) as Locals<P>;
    const body = sequence(...build(scope, ...locals));
    const ref = { name: functionName, index: this.#functions.length, params, result: resultType };
    this.#functions.push({ ref, code: [scope.declaration(), body.code, END] });
    return ref;
  }

  /** The binary. */
  bytes(): Uint8Array<ArrayBuffer> {
    const refs = this.#functions.map(({ ref }) => ref);
    const indices = refs.map((ref) => unsigned(ref.index));
    return new Uint8Array([
      ...[0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
      ...section(1, vector(refs.map(functionType))),
      ...section(2, vector([MEMORY_IMPORT])),
      ...section(3, vector(indices)),
      ...section(7, vector(refs.map((ref) => [name(ref.name), 0x00, unsigned(ref.index)]))),
      ...section(10, vector(this.#functions.map(({ code }) => sized(code)))),
    ]);
  }

  /** Compiles the module and binds it to a memory. */
  link(memory: WebAssembly.Memory): LinkedModule {
    invariant(this.#functions.length > 0, "A module without functions is linked");
    const module = new WebAssembly.Module(this.bytes());
    return new LinkedModule(new WebAssembly.Instance(module, { env: { memory } }).exports);
  }
}

/** Shared (flag 2) with a maximum (flag 1): at least one page, at most the 4 GiB of 32-bit addresses. */
const MEMORY_IMPORT: Code = [
  name("env"),
  name("memory"),
  0x02,
  0x03,
  unsigned(1),
  unsigned(65536),
];

function functionType(ref: FunctionRef): Code {
  const results = ref.result === "none" ? [] : [[TYPE_CODES[ref.result]]];
  return [0x60, vector(ref.params.map((type) => [TYPE_CODES[type]])), vector(results)];
}

function sized(code: Code): Code {
  const bytes = flatten(code);
  return [unsigned(bytes.length), bytes];
}
