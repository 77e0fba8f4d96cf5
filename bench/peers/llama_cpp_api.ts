/**
 * llama.cpp's C API, called without a binding in between: the prebuilt library that the package
 * `@node-llama-cpp/linux-x64` carries, release v0.5.0.
 *
 * Structures go by value, so their layout must be that release's. It is checked when the library
 * is opened: the defaults that the library itself fills in must appear where they are expected.
 */

import { getBinsDir } from "@node-llama-cpp/linux-x64";

/** The release whose structures are written down here. */
const RELEASE = "v0.5.0";

/** Numbers of ggml's types, as far as KV caches use them. */
const KV_TYPES = { f32: 0, f16: 1, bf16: 30 } as const;

/** How keys and values are stored. */
export type KvType = keyof typeof KV_TYPES;

const MODEL_PARAMS = {
  struct: [
    "pointer",
    "pointer",
    "i32",
    "i32",
    "i32",
    "i32",
    "i32",
    "pointer",
    "pointer",
    "pointer",
    "pointer",
    "bool",
    "bool",
    "bool",
    "bool",
    "bool",
    "bool",
  ],
} as const;
const MODEL_PARAMS_SIZE = 80;

/** 9 counts, 5 choices, 8 numbers about positions, a callback, 2 types, a callback, 6 flags, … */
const CONTEXT_PARAMS = {
  struct: [
    "u32",
    "u32",
    "u32",
    "u32",
    "u32",
    "u32",
    "u32",
    "i32",
    "i32",
    "i32",
    "i32",
    "i32",
    "i32",
    "i32",
    "f32",
    "f32",
    "f32",
    "f32",
    "f32",
    "f32",
    "u32",
    "f32",
    "pointer",
    "pointer",
    "i32",
    "i32",
    "pointer",
    "pointer",
    "bool",
    "bool",
    "bool",
    "bool",
    "bool",
    "bool",
    "pointer",
    "usize",
    "pointer",
  ],
} as const;
const CONTEXT_PARAMS_SIZE = 160;

/** Byte offsets of the fields that are read or set. */
const CONTEXT = {
  contextSize: 0,
  batchSize: 4,
  microBatchSize: 8,
  sequences: 12,
  threads: 28,
  threadsBatch: 32,
  flashAttention: 52,
  ropeFrequencyBase: 56,
  yarnExtFactor: 64,
  yarnAttnFactor: 68,
  yarnBetaFast: 72,
  yarnBetaSlow: 76,
  keyType: 104,
  valueType: 108,
  embeddings: 128,
  offloadKqv: 129,
  noPerf: 130,
  opOffload: 131,
  swaFull: 132,
  kvUnified: 133,
} as const;
const MODEL_FLAGS = { vocabOnly: 72, checkTensors: 73, useExtraBufts: 74 } as const;

const BATCH = {
  struct: ["i32", "pointer", "pointer", "pointer", "pointer", "pointer", "pointer"],
} as const;

/** cpumask[512], n_threads, prio, poll, strict_cpu, paused. */
const THREADPOOL_PARAMS_SIZE = 528;

const NEW_THREADPOOL = { parameters: ["buffer"], result: "pointer" } as const;
const FREE_THREADPOOL = { parameters: ["pointer"], result: "void" } as const;

const LLAMA_SYMBOLS = {
  llama_version: { parameters: [], result: "pointer" },
  llama_print_system_info: { parameters: [], result: "pointer" },
  llama_backend_init: { parameters: [], result: "void" },
  llama_log_set: { parameters: ["pointer", "pointer"], result: "void" },
  llama_model_default_params: { parameters: [], result: MODEL_PARAMS },
  llama_context_default_params: { parameters: [], result: CONTEXT_PARAMS },
  llama_model_load_from_file: { parameters: ["buffer", MODEL_PARAMS], result: "pointer" },
  llama_model_free: { parameters: ["pointer"], result: "void" },
  llama_model_get_vocab: { parameters: ["pointer"], result: "pointer" },
  llama_model_size: { parameters: ["pointer"], result: "u64" },
  llama_vocab_n_tokens: { parameters: ["pointer"], result: "i32" },
  llama_init_from_model: { parameters: ["pointer", CONTEXT_PARAMS], result: "pointer" },
  llama_free: { parameters: ["pointer"], result: "void" },
  llama_n_ctx: { parameters: ["pointer"], result: "u32" },
  llama_n_batch: { parameters: ["pointer"], result: "u32" },
  llama_n_seq_max: { parameters: ["pointer"], result: "u32" },
  llama_n_threads: { parameters: ["pointer"], result: "i32" },
  llama_get_memory: { parameters: ["pointer"], result: "pointer" },
  llama_memory_clear: { parameters: ["pointer", "bool"], result: "void" },
  llama_attach_threadpool: { parameters: ["pointer", "pointer", "pointer"], result: "void" },
  llama_detach_threadpool: { parameters: ["pointer"], result: "void" },
  llama_decode: { parameters: ["pointer", BATCH], result: "i32" },
  llama_synchronize: { parameters: ["pointer"], result: "void" },
  llama_get_logits_ith: { parameters: ["pointer", "i32"], result: "pointer" },
} as const;

const GGML_SYMBOLS = {
  ggml_backend_load_all_from_path: { parameters: ["buffer"], result: "void" },
  ggml_backend_reg_by_name: { parameters: ["buffer"], result: "pointer" },
} as const;

const GGML_BASE_SYMBOLS = {
  ggml_backend_reg_get_proc_address: { parameters: ["pointer", "buffer"], result: "pointer" },
  ggml_log_set: { parameters: ["pointer", "pointer"], result: "void" },
} as const;

/** How a context is made. */
export interface ContextOptions {
  readonly contextSize: number;
  readonly sequences: number;
  readonly threads: number;
  readonly kvType: KvType;
}

/** One token of a step: which, where in its sequence, and whether its logits are wanted. */
export interface BatchToken {
  readonly token: number;
  readonly position: number;
  readonly sequence: number;
  readonly wantsLogits: boolean;
}

const text = (content: string): Uint8Array<ArrayBuffer> =>
  new TextEncoder().encode(`${content}\0`) as Uint8Array<ArrayBuffer>;

function check(condition: boolean, what: string): void {
  if (!condition) {
    throw new TypeError(
      `Cannot use this llama.cpp library: ${what}; the layouts here are those of ${RELEASE}`,
    );
  }
}

/** The opened library. */
export class LlamaLibrary {
  readonly version: string;
  readonly #llama: Deno.DynamicLibrary<typeof LLAMA_SYMBOLS>;
  readonly #newThreadpool: (params: BufferSource) => Deno.PointerValue;
  readonly #freeThreadpool: (pool: Deno.PointerValue) => void;
  /** ggml keeps a pointer to it: it lives as long as the library. */
  readonly #silence = new Deno.UnsafeCallback(
    { parameters: ["i32", "pointer", "pointer"], result: "void" } as const,
    () => {},
  );

  constructor() {
    const folder = `${getBinsDir().binsDir}/linux-x64`;
    const base = Deno.dlopen(`${folder}/libggml-base.so`, GGML_BASE_SYMBOLS).symbols;
    const ggml = Deno.dlopen(`${folder}/libggml.${RELEASE}.so`, GGML_SYMBOLS).symbols;
    this.#llama = Deno.dlopen(`${folder}/libllama.${RELEASE}.so`, LLAMA_SYMBOLS);
    const llama = this.#llama.symbols;
    const version = llama.llama_version();
    this.version = version === null ? RELEASE : Deno.UnsafePointerView.getCString(version);
    base.ggml_log_set(this.#silence.pointer, null);
    llama.llama_log_set(this.#silence.pointer, null);
    // Picks the variant of the CPU code that is best for this machine.
    ggml.ggml_backend_load_all_from_path(text(folder));
    llama.llama_backend_init();
    const cpu = ggml.ggml_backend_reg_by_name(text("CPU"));
    check(cpu !== null, "it has no CPU backend");
    const find = (name: string): Deno.PointerObject => {
      const address = base.ggml_backend_reg_get_proc_address(cpu, text(name));
      if (address === null) throw new TypeError(`The CPU backend of llama.cpp has no "${name}"`);
      return address as Deno.PointerObject;
    };
    const newPool = new Deno.UnsafeFnPointer(
      find("ggml_threadpool_new") as Deno.PointerObject<typeof NEW_THREADPOOL>,
      NEW_THREADPOOL,
    );
    const freePool = new Deno.UnsafeFnPointer(
      find("ggml_threadpool_free") as Deno.PointerObject<typeof FREE_THREADPOOL>,
      FREE_THREADPOOL,
    );
    this.#newThreadpool = (params) => newPool.call(params);
    this.#freeThreadpool = (pool) => freePool.call(pool);
    this.#checkLayouts();
  }

  /** The library's own defaults, found at the offsets that are used here. */
  #checkLayouts(): void {
    const model = this.#llama.symbols.llama_model_default_params();
    check(
      model.byteLength === MODEL_PARAMS_SIZE,
      `model parameters have ${model.byteLength} bytes`,
    );
    check(
      model[MODEL_FLAGS.vocabOnly] === 0 && model[MODEL_FLAGS.checkTensors] === 0 &&
        model[MODEL_FLAGS.useExtraBufts] === 1,
      "the flags of a model's parameters moved",
    );
    const context = this.#llama.symbols.llama_context_default_params();
    check(
      context.byteLength === CONTEXT_PARAMS_SIZE,
      `context parameters have ${context.byteLength} bytes`,
    );
    const view = new DataView(context.buffer);
    const expected: [name: string, found: number, wanted: number][] = [
      ["n_ctx", view.getUint32(CONTEXT.contextSize, true), 512],
      ["n_batch", view.getUint32(CONTEXT.batchSize, true), 2048],
      ["n_ubatch", view.getUint32(CONTEXT.microBatchSize, true), 512],
      ["n_seq_max", view.getUint32(CONTEXT.sequences, true), 1],
      ["n_threads", view.getInt32(CONTEXT.threads, true), 4],
      ["n_threads_batch", view.getInt32(CONTEXT.threadsBatch, true), 4],
      ["flash_attn_type", view.getInt32(CONTEXT.flashAttention, true), -1],
      ["yarn_ext_factor", view.getFloat32(CONTEXT.yarnExtFactor, true), -1],
      ["type_k", view.getInt32(CONTEXT.keyType, true), KV_TYPES.f16],
      ["type_v", view.getInt32(CONTEXT.valueType, true), KV_TYPES.f16],
      ["embeddings", view.getUint8(CONTEXT.embeddings), 0],
      ["offload_kqv", view.getUint8(CONTEXT.offloadKqv), 1],
      ["no_perf", view.getUint8(CONTEXT.noPerf), 1],
      ["op_offload", view.getUint8(CONTEXT.opOffload), 1],
      ["swa_full", view.getUint8(CONTEXT.swaFull), 1],
      ["kv_unified", view.getUint8(CONTEXT.kvUnified), 0],
    ];
    for (const [name, found, wanted] of expected) {
      check(found === wanted, `the default of ${name} is ${found} where ${wanted} is expected`);
    }
  }

  /** Which instructions the CPU code was built for. */
  systemInfo(): string {
    const text = this.#llama.symbols.llama_print_system_info();
    return text === null ? "unknown" : Deno.UnsafePointerView.getCString(text).trim();
  }

  /** Loads a GGUF file. */
  loadModel(path: string): LlamaModel {
    const { symbols } = this.#llama;
    const pointer = symbols.llama_model_load_from_file(
      text(path),
      symbols.llama_model_default_params(),
    );
    if (pointer === null) throw new Error(`llama.cpp cannot load "${path}"`);
    return new LlamaModel(this, pointer);
  }

  /** The functions of `llama.h`. */
  get symbols(): Deno.DynamicLibrary<typeof LLAMA_SYMBOLS>["symbols"] {
    return this.#llama.symbols;
  }

  /** Threads as llama.cpp's own programs use them, kept between steps. */
  createThreadpool(threads: number): Deno.PointerValue {
    const params = new DataView(new ArrayBuffer(THREADPOOL_PARAMS_SIZE));
    params.setInt32(512, threads, true);
    params.setUint32(520, 50, true); // the default: poll for a while, then sleep
    const pool = this.#newThreadpool(params);
    if (pool === null) throw new Error("llama.cpp cannot start its threads");
    return pool;
  }

  /** Ends the threads. */
  freeThreadpool(pool: Deno.PointerValue): void {
    this.#freeThreadpool(pool);
  }
}

/** A loaded model. */
export class LlamaModel implements Disposable {
  readonly library: LlamaLibrary;
  readonly pointer: Deno.PointerValue;
  readonly vocabSize: number;
  readonly sizeBytes: number;

  constructor(library: LlamaLibrary, pointer: Deno.PointerValue) {
    this.library = library;
    this.pointer = pointer;
    const { symbols } = library;
    this.vocabSize = symbols.llama_vocab_n_tokens(symbols.llama_model_get_vocab(pointer));
    this.sizeBytes = Number(symbols.llama_model_size(pointer));
  }

  [Symbol.dispose](): void {
    this.library.symbols.llama_model_free(this.pointer);
  }
}

/** A context with threads of its own. */
export class LlamaContext implements Disposable {
  readonly #model: LlamaModel;
  readonly #pointer: Deno.PointerValue;
  readonly #pool: Deno.PointerValue;

  constructor(model: LlamaModel, options: ContextOptions) {
    const { symbols } = model.library;
    this.#model = model;
    const params = symbols.llama_context_default_params();
    const view = new DataView(params.buffer);
    view.setUint32(CONTEXT.contextSize, options.contextSize, true);
    view.setUint32(CONTEXT.sequences, options.sequences, true);
    view.setInt32(CONTEXT.threads, options.threads, true);
    view.setInt32(CONTEXT.threadsBatch, options.threads, true);
    view.setInt32(CONTEXT.keyType, KV_TYPES[options.kvType], true);
    view.setInt32(CONTEXT.valueType, KV_TYPES[options.kvType], true);
    this.#pointer = symbols.llama_init_from_model(model.pointer, params);
    if (this.#pointer === null) {
      throw new Error(`llama.cpp cannot make a context: ${JSON.stringify(options)}`);
    }
    check(symbols.llama_n_ctx(this.#pointer) >= options.contextSize, "n_ctx does not come back");
    check(
      symbols.llama_n_seq_max(this.#pointer) === options.sequences,
      "n_seq_max does not come back",
    );
    check(
      symbols.llama_n_threads(this.#pointer) === options.threads,
      "n_threads does not come back",
    );
    this.#pool = model.library.createThreadpool(options.threads);
    symbols.llama_attach_threadpool(this.#pointer, this.#pool, this.#pool);
  }

  /** Forgets every sequence. */
  clear(): void {
    const { symbols } = this.#model.library;
    symbols.llama_memory_clear(symbols.llama_get_memory(this.#pointer), false);
  }

  /** Runs one step. */
  decode(tokens: Batch): void {
    const { symbols } = this.#model.library;
    const code = symbols.llama_decode(this.#pointer, tokens.structure);
    if (code !== 0) throw new Error(`llama_decode answers ${code} to ${tokens.length} tokens`);
    symbols.llama_synchronize(this.#pointer);
  }

  /** The id with the largest logit after a token of the last step. */
  argmax(index: number): number {
    const logits = this.#logits(index);
    return logits.reduce((best, value, id) => value > (logits[best] as number) ? id : best, 0);
  }

  /** The logarithm of the probability of `id` after a token of the last step. */
  logprob(index: number, id: number): number {
    const logits = this.#logits(index);
    const largest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
    const sum = logits.reduce((total, value) => total + Math.exp(value - largest), 0);
    return (logits[id] as number) - largest - Math.log(sum);
  }

  /** A view of the library's memory, good until the next step. */
  #logits(index: number): Float32Array {
    const pointer = this.#model.library.symbols.llama_get_logits_ith(this.#pointer, index);
    if (pointer === null) throw new Error(`llama.cpp has no logits of token ${index} of the step`);
    return new Float32Array(
      Deno.UnsafePointerView.getArrayBuffer(pointer, 4 * this.#model.vocabSize),
    );
  }

  [Symbol.dispose](): void {
    const { library } = this.#model;
    library.symbols.llama_detach_threadpool(this.#pointer);
    library.symbols.llama_free(this.#pointer);
    library.freeThreadpool(this.#pool);
  }
}

/** The arrays of a step, and the structure that points at them. */
export class Batch {
  readonly structure: Uint8Array<ArrayBuffer>;
  readonly #arrays: readonly (ArrayBufferView<ArrayBuffer>)[];

  constructor(tokens: readonly BatchToken[]) {
    const ids = Int32Array.from(tokens, ({ token }) => token);
    const positions = Int32Array.from(tokens, ({ position }) => position);
    const counts = new Int32Array(tokens.length).fill(1);
    const sequences = Int32Array.from(tokens, ({ sequence }) => sequence);
    const logits = Int8Array.from(tokens, ({ wantsLogits }) => Number(wantsLogits));
    const first = address(sequences);
    const pointers = BigUint64Array.from(tokens, (_, i) => first + BigInt(4 * i));
    this.#arrays = [ids, positions, counts, sequences, logits, pointers];
    this.structure = new Uint8Array(56);
    const view = new DataView(this.structure.buffer);
    view.setInt32(0, tokens.length, true);
    view.setBigUint64(8, address(ids), true);
    view.setBigUint64(24, address(positions), true);
    view.setBigUint64(32, address(counts), true);
    view.setBigUint64(40, address(pointers), true);
    view.setBigUint64(48, address(logits), true);
  }

  /** How many tokens. */
  get length(): number {
    return (this.#arrays[0] as Int32Array).length;
  }
}

function address(array: ArrayBufferView<ArrayBuffer>): bigint {
  return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(array)));
}
