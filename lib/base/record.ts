/** What JSON calls an object, told from everything else that a parsed text may be. */

/** Whether a value has fields: it is neither null nor a list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
