/** Waiting with an end: a bench that waits forever says nothing, and one that fails says why. */

/** The promise's result, or an error that says what did not come in time. */
export async function withLimit<Result>(
  promise: Promise<Result>,
  limitMs: number,
  what: string,
): Promise<Result> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    const message = `${what} did not come within ${limitMs / 1000} s`;
    timer = setTimeout(() => reject(new Error(message)), limitMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
