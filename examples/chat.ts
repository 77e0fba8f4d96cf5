/** A conversation in the terminal: `deno run -A examples/chat.ts MODEL [QUESTION]`. */

import { type ChatMessage, LLM, SamplingParams } from "../mod.ts";

const [model, question] = Deno.args;
if (model === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}

await using llm = await LLM.load(model);
const params = new SamplingParams({ temperature: 0, maxTokens: 200 });
const messages: ChatMessage[] = [{ role: "system", content: "Answer briefly." }];

// With a question on the command line there is one turn; without, as many as you like.
for (let turn = 0; question === undefined || turn === 0; turn++) {
  const content = question ?? prompt("you:");
  if (!content) break;
  messages.push({ role: "user", content });
  const { outputs: [answer] } = await llm.chat(messages, params);
  if (answer === undefined) break;
  console.log(answer.text);
  messages.push({ role: "assistant", content: answer.text });
}
