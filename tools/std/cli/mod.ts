/** Stand-in for @std/cli: see tools/std/README.md. */
export {};
