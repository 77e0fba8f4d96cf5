/** Programs of this machine that know how it reaches its package indices: pip and npm. */

/** What a program left when it ended. */
export interface Ended {
  readonly success: boolean;
  readonly stdout: string;
  readonly stderr: string;
}

/** How a program runs. */
export interface RunOptions {
  /** Ends it. */
  readonly signal?: AbortSignal | undefined;
  /** Variables besides those of this process. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * Runs a program to its end.
 *
 * @throws {Deno.errors.NotFound} It is not installed.
 */
export async function runProgram(
  program: string,
  programArguments: readonly string[],
  { signal, env = {} }: RunOptions = {},
): Promise<Ended> {
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
