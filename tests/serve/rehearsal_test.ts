/** The rehearsal before serving: only a template that fails is told of. */

import { assertEquals } from "@std/assert";
import { rehearse } from "../../serve/rehearsal.ts";

Deno.test("A chat template that fails at the start is a warning, and only where there is one", async () => {
  const warnings: string[] = [];
  const warn = (text: string) => void warnings.push(text);
  const tokenizeChat = () => Promise.reject(new Error("no loops here"));
  for (
    const [task, hasChatTemplate, count] of [
      ["generate", true, 1],
      ["generate", false, 0],
      ["embed", true, 0],
    ] as const
  ) {
    warnings.length = 0;
    await rehearse({ info: { task, hasChatTemplate }, tokenizeChat }, { warn });
    assertEquals(warnings.length, count);
  }
  await rehearse(
    { info: { task: "generate", hasChatTemplate: true }, tokenizeChat: () => Promise.resolve([1]) },
    { warn },
  );
  assertEquals(warnings, []);
});
