/** The command line of the fetchers: progress to standard error, paths to standard output. */

import { defaultCacheDir, FetchError, type FetchOptions } from "./cache.ts";

/**
 * Fetches one thing after another into the default cache and prints where each is.
 *
 * @returns The exit code: 1, after a sentence that says why, if something could not be fetched.
 */
export async function fetchAndPrint(
  ...fetchers: readonly ((options: FetchOptions) => Promise<string>)[]
): Promise<number> {
  const interactive = Deno.stderr.isTerminal();
  let shown = "";
  const write = (text: string) => Deno.stderr.writeSync(new TextEncoder().encode(text));
  const endLine = () => {
    if (interactive && shown !== "") write("\n");
    shown = "";
  };
  const onProgress = (doneBytes: number, totalBytes: number, what: string) => {
    const percent = Math.floor(100 * doneBytes / totalBytes);
    const line = `${what}: ${interactive ? percent : percent - percent % 25} %`;
    if (line === shown) return;
    shown = line;
    write(interactive ? `\r\x1b[K${line}` : `${line}\n`);
  };
  try {
    for (const fetcher of fetchers) {
      const path = await fetcher({ cacheDir: defaultCacheDir(), onProgress });
      endLine();
      console.log(path);
    }
    return 0;
  } catch (error) {
    if (!(error instanceof FetchError)) throw error;
    endLine();
    console.error(error.message);
    return 1;
  }
}
