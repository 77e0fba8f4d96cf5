/**
 * `--unsafe-fast`: the same command once more, in a process with the two flags of V8.
 *
 * V8 reads them when a process starts, so the command starts a second one and stands in for it:
 * signals go there, its exit code comes back, input and output are shared.
 */

/** Joins neighbouring vectors, which only works where no bounds check stands between them. */
export const UNSAFE_V8_FLAGS: readonly string[] = [
  "--experimental-wasm-revectorize",
  "--no-wasm-bounds-checks",
];

/** What `--unsafe-fast` gives up, in one line. */
export const UNSAFE_NOTICE: string =
  "Unsafe and fast: WebAssembly memory accesses are not checked, for performance testing";

/** Set to the id of the process that restarts itself, so that its child, and only that, knows. */
const MARKER = "RNGD_UNSAFE_FAST_PARENT";

/** Permissions the second process gets if this one has them. */
const PERMISSIONS = ["read", "write", "net", "env", "sys", "run", "ffi", "import"] as const;

/** Whether this process is the second one. */
export function isRestarted(): boolean {
  return Deno.env.get(MARKER) === String(Deno.ppid);
}

/** Runs the command `args` of this program in a process with the flags; its exit code. */
export async function restartUnsafeFast(args: readonly string[]): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...restartArgs(args, await grantedPermissions())],
    env: { [MARKER]: String(Deno.pid) },
    stdin: "inherit",
    stdout: "inherit",
    stderr: "inherit",
    // A group of its own: a Ctrl-C would reach it twice, and the second one ends it at once.
    detached: true,
  }).spawn();
  using _signals = forwardSignals(child);
  const { code } = await child.status;
  return code;
}

/** The words after `deno`. */
export function restartArgs(
  args: readonly string[],
  permissions: readonly string[],
): readonly string[] {
  return [
    "run",
    `--v8-flags=${UNSAFE_V8_FLAGS.join(",")}`,
    ...permissions.map((name) => `--allow-${name}`),
    Deno.mainModule,
    ...args,
  ];
}

/** Those that this process has without exception: what was allowed in part, Deno does not tell. */
async function grantedPermissions(): Promise<readonly string[]> {
  const states = await Promise.all(
    PERMISSIONS.map(async (name) => ({ name, ...await stateOf(name) })),
  );
  return states.filter(({ state, partial }) => state === "granted" && !partial)
    .map(({ name }) => name);
}

async function stateOf(
  name: typeof PERMISSIONS[number],
): Promise<{ readonly state: Deno.PermissionState; readonly partial: boolean }> {
  const { state, partial } = await Deno.permissions.query({ name });
  return { state, partial };
}

function forwardSignals(child: Deno.ChildProcess): Disposable {
  const signals: readonly Deno.Signal[] = Deno.build.os === "windows"
    ? ["SIGINT", "SIGBREAK"]
    : ["SIGINT", "SIGTERM", "SIGHUP"];
  const listeners = signals.map((signal) => {
    const listener = () => {
      try {
        child.kill(signal);
      } catch (error) {
        if (!(error instanceof TypeError)) throw error; // it has ended already
      }
    };
    Deno.addSignalListener(signal, listener);
    return { signal, listener };
  });
  return {
    [Symbol.dispose]() {
      for (const { signal, listener } of listeners) Deno.removeSignalListener(signal, listener);
    },
  };
}
