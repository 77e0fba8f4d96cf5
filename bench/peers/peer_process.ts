/** How the programs of this folder are run: they have an import map and a lock of their own. */

const PEERS = new URL(".", import.meta.url).pathname;

/** How Deno is told to run one of them. */
export function peerArguments(file: string): string[] {
  return ["run", "-A", "-q", "--no-check", "--config", `${PEERS}deno.json`, `${PEERS}${file}`];
}

/** Runs one to its end: what it printed, or why it failed. */
export async function runPeer(
  file: string,
): Promise<{ readonly output: string } | { readonly failure: string }> {
  const { success, code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: peerArguments(file),
    stdin: "null",
  }).output();
  const [output, complaints] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (success) return { output: output as string };
  const lines = (complaints as string).split("\n").filter((line) => line.trim() !== "");
  const reason = lines.find((line) => /error/i.test(line)) ?? lines.at(-1);
  return { failure: `${file} ended with exit code ${code}: ${reason ?? "it said nothing"}` };
}
