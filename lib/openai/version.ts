/** The version this package is published under; a test keeps it equal to deno.json's. */

/** The version of `@rngd/llm`. */
export const VERSION = "0.1.0";
