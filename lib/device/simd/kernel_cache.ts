/** Kernels by the shape they were compiled for. */

/** Counts what the caches of one table compile. */
export class CompileCount {
  value = 0;
}

/** Compiles a kernel when its key is first asked for, and keeps it. */
export class KernelCache<Key extends readonly (string | number)[], Kernel> {
  readonly #compiled: CompileCount;
  readonly #compile: (...key: Key) => Kernel;
  readonly #kernels: { readonly key: Key; readonly kernel: Kernel }[] = [];

  constructor(compiled: CompileCount, compile: (...key: Key) => Kernel) {
    this.#compiled = compiled;
    this.#compile = compile;
  }

  /** The kernel of a key. A model has a handful of shapes, so looking through them is fast. */
  get(...key: Key): Kernel {
    for (const entry of this.#kernels) {
      if (sameKey(entry.key, key)) return entry.kernel;
    }
    const kernel = this.#compile(...key);
    this.#kernels.push({ key, kernel });
    this.#compiled.value++;
    return kernel;
  }
}

function sameKey(a: readonly (string | number)[], b: readonly (string | number)[]): boolean {
  for (let i = 0; i < a.length; i++) {
    if (a[i] !== b[i]) return false;
  }
  return true;
}
