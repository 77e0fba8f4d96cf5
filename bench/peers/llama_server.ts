/**
 * `deno run -A bench/peers/llama_server.ts`: builds llama.cpp's own HTTP server for this machine,
 * once, and prints where it is.
 *
 * The sources are those that the Python package `llama-cpp-python` carries; pip fetches them and
 * cmake builds them, in the user's cache folder. It takes a quarter of an hour on two cores, so the
 * bench never does it by itself: it uses the server that is there, or says that there is none.
 */

import { join } from "node:path";
import { defaultCacheDir, isThere } from "../../tools/models/cache.ts";

/** The package whose source archive is built. */
const PACKAGE = "llama-cpp-python";
const VERSION = "0.3.36";

/** Native code for this processor, one program without anything that is fetched while it is built. */
const CMAKE_OPTIONS = [
  "-DCMAKE_BUILD_TYPE=Release",
  "-DGGML_NATIVE=ON",
  "-DBUILD_SHARED_LIBS=OFF",
  "-DLLAMA_OPENSSL=OFF",
  "-DLLAMA_BUILD_TESTS=OFF",
  "-DLLAMA_BUILD_EXAMPLES=OFF",
  "-DLLAMA_BUILD_SERVER=ON",
  "-DLLAMA_BUILD_APP=OFF",
  "-DLLAMA_USE_PREBUILT_UI=OFF",
] as const;

/** Where the build is, or would be. */
function buildFolder(): string {
  return join(defaultCacheDir(), "bench", "llama-server");
}

/** The program, if it was built here. */
export function findLlamaServer(): string | undefined {
  const path = join(buildFolder(), "build", "bin", "llama-server");
  try {
    return Deno.statSync(path).isFile ? path : undefined;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

/** Fetches the sources and builds the server. */
async function buildLlamaServer(): Promise<string> {
  const folder = buildFolder();
  await Deno.mkdir(folder, { recursive: true });
  const sources = join(folder, `llama_cpp_python-${VERSION}`);
  const archive = `${sources}.tar.gz`;
  if (!await isThere(archive)) {
    await run("python3", [
      ...["-m", "pip", "download", "--no-deps", "--no-binary", PACKAGE],
      ...["--dest", folder, `${PACKAGE}==${VERSION}`],
    ]);
  }
  if (!await isThere(sources)) await run("tar", ["xzf", archive, "-C", folder]);
  const build = join(folder, "build");
  await run("cmake", ["-S", join(sources, "vendor", "llama.cpp"), "-B", build, ...CMAKE_OPTIONS]);
  const jobs = `${navigator.hardwareConcurrency}`;
  await run("cmake", ["--build", build, "--target", "llama-server", "-j", jobs]);
  const path = findLlamaServer();
  if (path === undefined) throw new Error(`cmake built no "llama-server" in "${build}"`);
  return path;
}

/** Runs a program whose output goes to standard error. */
async function run(program: string, programArguments: readonly string[]): Promise<void> {
  const child = new Deno.Command(program, {
    args: [...programArguments],
    stdin: "null",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  for await (const chunk of child.stdout) await Deno.stderr.write(chunk);
  const { code } = await child.status;
  if (code !== 0) {
    throw new Error(`"${program} ${programArguments.join(" ")}" ended with exit code ${code}`);
  }
}

if (import.meta.main) console.log(findLlamaServer() ?? await buildLlamaServer());
