/** Several async generators as one, in the order their values arrive. */

/**
 * Yields `[index of the source, value]`. All sources start at once; each is asked for its next
 * value only after the last one was taken, so a slow reader slows all. Leaving early, or the
 * failure of one, ends the others.
 */
export async function* merge<T>(
  sources: readonly AsyncGenerator<T, void, void>[],
): AsyncGenerator<readonly [number, T], void, void> {
  const arrived: { readonly index: number; readonly value: T }[] = [];
  let failure: { readonly error: unknown } | undefined;
  let running = sources.length;
  let wake = () => {};

  const ask = (index: number): void => {
    (sources[index] as AsyncGenerator<T, void, void>).next().then((result) => {
      if (result.done) running--;
      else arrived.push({ index, value: result.value });
      wake();
    }, (error) => {
      failure ??= { error };
      wake();
    });
  };

  try {
    sources.forEach((_, index) => ask(index));
    while (true) {
      if (failure !== undefined) throw failure.error;
      const next = arrived.shift();
      if (next !== undefined) {
        yield [next.index, next.value];
        ask(next.index);
      } else if (running === 0) {
        return;
      } else {
        await new Promise<void>((resolve) => wake = resolve);
      }
    }
  } finally {
    // Not awaited: a source that is waiting for its next value ends when its own signal fires.
    for (const source of sources) source.return().catch(() => {});
  }
}
