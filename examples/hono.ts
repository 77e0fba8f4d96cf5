/**
 * The OpenAI routes inside a Hono application: `deno run --no-lock -A examples/hono.ts MODEL [PORT]`.
 *
 * Clients use http://localhost:8000/ai/v1.
 */

import { Hono } from "npm:hono@^4.13.19";
import { mount } from "npm:hono@^4.13.19/mount";
import { handler, type ServedModel } from "../lib/openai/handler.ts";
import { LLM } from "../mod.ts";

/** An application of one's own, with the model below /ai. */
export function createApp(llm: ServedModel): Hono {
  const app = new Hono();
  app.get("/", (context) => context.text("Hello from my own server\n"));
  // Hono takes the prefix away, and tells of a client that leaves.
  app.all("/ai/*", mount(handler(llm, { servedModelNames: ["house-model"] })));
  return app;
}

if (import.meta.main) {
  const [model, port = "8000"] = Deno.args;
  if (model === undefined) {
    console.error("Name a model: a GGUF file or a model's folder");
    Deno.exit(2);
  }
  await using llm = await LLM.load(model);
  const server = Deno.serve({ port: Number(port) }, createApp(llm).fetch);
  Deno.addSignalListener("SIGINT", () => server.shutdown());
  await server.finished;
}
