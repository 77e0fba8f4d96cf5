/** Stand-in for @std/http: see tools/std/README.md. */
export {};
