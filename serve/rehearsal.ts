/** One conversation rendered before anybody asks: a template that fails is told of at the start. */

import type { LLM } from "../mod.ts";
import type { Terminal } from "./terminal.ts";

/** Renders a short conversation. A failure is only a warning: other routes need no template. */
export async function rehearse(
  llm: Pick<LLM, "tokenizeChat"> & {
    readonly info: Pick<LLM["info"], "task" | "hasChatTemplate">;
  },
  terminal: Pick<Terminal, "warn">,
): Promise<void> {
  const { task, hasChatTemplate } = llm.info;
  if (task !== "generate" || !hasChatTemplate) return;
  try {
    await llm.tokenizeChat([{ role: "user", content: "Hi" }]);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    terminal.warn(`the chat template fails with one short message: ${reason}`);
  }
}
