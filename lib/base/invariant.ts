/** What must hold unless we made a mistake ourselves. */

/** Thrown by {@linkcode invariant}: a bug of this library, never of its caller. */
export class InvariantError extends Error {
  override name = "InvariantError";
}

/** Throws an {@linkcode InvariantError} that says `message` unless `condition` holds. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (!condition) throw new InvariantError(message);
}
