/** One process at a time downloads a blob. */

/** How to wait for a lock. */
export interface LockOptions {
  readonly pollMs: number;
  readonly signal: AbortSignal;
  /** Called at every look while another one has the lock. */
  readonly onWait?: () => void;
}

/**
 * Takes the lock of a file, which is made if it is missing; waits while anybody else has it.
 *
 * The system's own file lock is used, as huggingface_hub does: the two exclude each other, and the
 * lock of a process that died is free at once. The file stays, as removing it would let a third
 * process lock a file that the second has open.
 */
export async function takeLock(path: string, options: LockOptions): Promise<Disposable> {
  const { pollMs, signal, onWait } = options;
  const file = await Deno.open(path, { read: true, write: true, create: true });
  try {
    while (!(await file.tryLock(true))) {
      onWait?.();
      await pause(pollMs, signal);
    }
    signal.throwIfAborted();
  } catch (error) {
    file.close();
    throw error;
  }
  return { [Symbol.dispose]: () => file.close() };
}

/** Waits. Throws the signal's reason as soon as it is aborted. */
export async function pause(timeMs: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const stop = () => reject(signal.reason);
  const timer = setTimeout(resolve, timeMs);
  signal.addEventListener("abort", stop);
  try {
    await promise;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", stop);
  }
}
