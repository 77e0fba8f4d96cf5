/**
 * Runs a command while a generative model, an embedding model and a reranker are served, and ends
 * with its exit code: `deno run -A tests/clients/with_servers.ts COMMAND...`.
 *
 * The command finds the addresses in RNGD_GENERATE_URL, RNGD_EMBED_URL and RNGD_RERANK_URL.
 */

import { startCommand } from "../../tools/checks/running_server.ts";
import { defaultCacheDir } from "../../tools/models/cache.ts";
import { minilmFolder } from "../../tools/models/minilm.ts";
import { writeTinyReranker } from "./tiny_reranker.ts";

const [program, ...programArguments] = Deno.args;
if (program === undefined) {
  console.error("Name a command to run");
  Deno.exit(2);
}

const reranker = await writeTinyReranker();
let code: number;
try {
  await using generate = await startCommand([]);
  await using embed = await startCommand([minilmFolder(defaultCacheDir())]);
  await using rerank = await startCommand([reranker]);
  const child = new Deno.Command(program, {
    args: programArguments,
    stdin: "null",
    env: {
      RNGD_GENERATE_URL: generate.url,
      RNGD_EMBED_URL: embed.url,
      RNGD_RERANK_URL: rerank.url,
    },
  }).spawn();
  code = (await child.status).code;
} finally {
  await Deno.remove(reranker, { recursive: true });
}
Deno.exit(code);
