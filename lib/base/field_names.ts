/** Names of fields in objects that a caller wrote: an unknown one would be left out without a word. */

import { InvalidParameterError } from "./errors.ts";

/**
 * Refuses an unknown field. One whose value is `undefined` counts as absent.
 *
 * @param what What a field is called: "the sampling parameter", say.
 * @throws {InvalidParameterError} It names the field, and the right spelling or all fields.
 */
export function checkFieldNames(given: object, known: readonly string[], what: string): void {
  for (const [field, value] of Object.entries(given)) {
    if (value === undefined || known.includes(field)) continue;
    const camelCase = field.replace(/_+([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const advice = camelCase !== field && known.includes(camelCase)
      ? `write "${camelCase}"`
      : `the fields are ${known.join(", ")}`;
    throw new InvalidParameterError(
      field,
      value,
      `Cannot use ${what} "${field}": there is no such field, ${advice}`,
    );
  }
}
