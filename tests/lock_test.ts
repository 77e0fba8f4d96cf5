import { assert, assertEquals } from "@std/assert";

interface Lock {
  readonly specifiers: Readonly<Record<string, string>>;
  readonly jsr?: Readonly<Record<string, unknown>>;
  readonly workspace: { readonly dependencies: readonly string[] };
  readonly npm?: Readonly<Record<string, { readonly dependencies?: readonly string[] }>>;
}

/** What `mod.ts`, `serve.ts` and the plain tests need. Everybody who runs anything downloads it. */
const ROOTS = ["@huggingface/jinja", "@huggingface/tokenizers", "ndarray", "yaml"];
/** Type packages arrive by themselves with the packages they describe. */
const TYPES = /^@types\//;

/** The names in a lock that the roots do not need. */
function strangers(lock: Lock, roots: readonly string[]): string[] {
  const packages = Object.entries(lock.npm ?? {}).map(([id, entry]) => ({
    name: nameOf(id),
    dependencies: (entry.dependencies ?? []).map(nameOf),
  }));
  const needed = new Set(
    [...roots, ...packages.map(({ name }) => name).filter((name) => TYPES.test(name))],
  );
  // A set that is added to while it is walked walks on to what was added.
  for (const name of needed) {
    for (const entry of packages) {
      if (entry.name === name) entry.dependencies.forEach((dependency) => needed.add(dependency));
    }
  }
  // The lock repeats the ranges of the import map, written in a form of its own.
  const declared = lock.workspace.dependencies.filter((specifier) =>
    /^jsr:@std\//.test(specifier) || roots.includes(nameOf(specifier.replace(/^npm:/, "")))
  );
  const specifiers = [...Object.keys(lock.specifiers), ...lock.workspace.dependencies]
    .filter((specifier) => !declared.includes(specifier) && !/^npm:@types\//.test(specifier));
  return [
    ...specifiers,
    ...packages.map(({ name }) => name).filter((name) => !needed.has(name)),
    ...Object.keys(lock.jsr ?? {}).filter((id) => !id.startsWith("@std/")),
  ];
}

/** `@types/node@24.1.0_a@1` → `@types/node` */
function nameOf(id: string): string {
  return /^@?[^@]+/.exec(id)![0];
}

Deno.test("The root lock names only what the library, the server and the plain tests need", async () => {
  const text = await Deno.readTextFile(new URL("../deno.lock", import.meta.url));
  const lock: Lock = JSON.parse(text);
  assert(Object.keys(lock.specifiers).length > 0, "the lock is empty");
  assertEquals(strangers(lock, ROOTS), []);
});

Deno.test("The lock check finds strangers, and lets dependencies of the roots through", () => {
  const lock = {
    specifiers: {
      "npm:ndarray@^1.1.1": "1.1.1",
      "npm:ndarray@*": "1.1.1",
      "npm:openai@7": "7.1.0",
      "npm:@types/node@*": "24",
    },
    workspace: { dependencies: ["jsr:@std/assert@1", "npm:ndarray@^1.1.1", "npm:left-pad@1"] },
    npm: {
      "ndarray@1.1.1": { dependencies: ["iota-array"] },
      "iota-array@1.0.0": { dependencies: ["deep@1"] },
      "deep@1.0.0": {},
      "@types/node@24.0.0_deep@1.0.0": { dependencies: ["undici-types"] },
      "undici-types@7.0.0": {},
      "openai@7.1.0": { dependencies: ["onnxruntime"] },
      "onnxruntime@1.0.0": {},
    },
  };
  assertEquals(strangers(lock, ["ndarray"]), [
    "npm:ndarray@*", // beside the range of the import map: somebody wrote a specifier of their own
    "npm:openai@7",
    "npm:left-pad@1",
    "openai",
    "onnxruntime",
  ]);
});
