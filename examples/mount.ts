/** The OpenAI routes inside a server of one's own: `deno run -A examples/mount.ts MODEL [PORT]`. */

import { handler } from "../lib/openai/handler.ts";
import { LLM } from "../mod.ts";

const [model, port = "8000"] = Deno.args;
if (model === undefined) {
  console.error("Name a model: a GGUF file or a model's folder");
  Deno.exit(2);
}

await using llm = await LLM.load(model);
const openai = handler(llm, { servedModelNames: ["house-model"], maxLogprobs: 5 });

const server = Deno.serve({ port: Number(port) }, (request) => {
  const url = new URL(request.url);
  if (url.pathname === "/") return new Response("Hello from my own server\n");
  if (!url.pathname.startsWith("/ai/")) return new Response("Not here\n", { status: 404 });
  // Everything below /ai/ is the model's: clients use http://localhost:8000/ai/v1.
  url.pathname = url.pathname.slice("/ai".length);
  return openai(new Request(url, request));
});

Deno.addSignalListener("SIGINT", () => server.shutdown());
await server.finished;
