/**
 * What `docs/compatibility.md` says of each parameter, tried out: a field that works changes what the
 * model is asked or what is answered, one that is ignored changes nothing, the others are refused.
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { PAGE, readPage, type Row } from "../../tools/checks/compatibility.ts";
import { type Carrier, type Table, TABLES, WatchedLLM } from "./parameter_bodies.ts";
import { CHAT, get, HELLO, type Json, post, send, stable } from "./requests.ts";

const { rows } = readPage(await Deno.readTextFile(new URL(`../../${PAGE}`, import.meta.url)));

/** Options without their signal, ids made equal. */
function settled(options: object): Json {
  return JSON.parse(stable(JSON.stringify({ ...options, signal: undefined })));
}

/** What the model was asked and what was answered, without what differs from run to run. */
async function outcome({ path, body, model }: Carrier, extra: object): Promise<Json> {
  const llm = model();
  const response = await send(post(path, { ...body, ...extra }), llm, {
    trustRequestChatTemplate: true,
    devMode: true,
  });
  const text = stable(await response.text());
  return {
    status: response.status,
    text,
    calls: llm.calls.map(({ input, params, options }) => ({
      input,
      params: { ...params },
      options: settled(options),
    })),
    pooled: llm.engine.requests.map((request) => settled({ ...request, id: undefined })),
    rendered: llm.rendered.map(({ messages, options }) => ({
      messages,
      options: settled(options),
    })),
  };
}

/** Tries a row's names out on each of its carriers. */
async function tryOut({ word }: Row, name: string, table: Table): Promise<void> {
  const field = name.split(".")[0]!;
  const extra = table.bodies[name] as Record<string, unknown>;
  assert(extra !== undefined, `${name} has a body to try it with`);
  const { [field]: _, ...without } = extra;
  for (const carrier of table.carriersOf?.[name] ?? table.carriers) {
    const where = `${carrier.path} ${JSON.stringify(extra)}`;
    const withIt = await outcome(carrier, extra);
    if (word !== "works" && word !== "ignored") {
      assertEquals(withIt.status, 400, where);
      const { param } = JSON.parse(withIt.text).error;
      assert(`${param}`.split(".").includes(field), `${where} is refused for ${param}`);
      continue;
    }
    assertEquals(withIt.status, 200, `${where}: ${withIt.text}`);
    const withoutIt = await outcome(carrier, without);
    if (word === "ignored") assertEquals(withIt, withoutIt, where);
    else assertNotEquals(withIt, withoutIt, where);
  }
}

/** Tries all parameters whose rows begin with one of the words. */
async function tryAll(words: readonly string[]): Promise<void> {
  for (const row of rows) {
    const table = TABLES[row.heading];
    if (table === undefined || !words.includes(row.word ?? "")) continue;
    for (const name of row.names) await tryOut(row, name, table);
  }
}

Deno.test("A parameter that works changes what the model is asked or what is answered", async () => {
  await tryAll(["works"]);
});

Deno.test("A parameter that is ignored changes nothing", async () => {
  await tryAll(["ignored"]);
});

Deno.test("A parameter that is not there, or a value of it, is refused by name", async () => {
  await tryAll(["later", "no", "in part"]);
});

Deno.test("Every parameter of the page is tried out, and no other", () => {
  const headings = rows.filter(({ kind }) => kind === "Parameter").map(({ heading }) => heading);
  assertEquals([...new Set(headings)].toSorted(), Object.keys(TABLES).toSorted());
  for (const [heading, { bodies }] of Object.entries(TABLES)) {
    const names = rows.filter((row) => row.heading === heading).flatMap((row) => row.names);
    assertEquals(Object.keys(bodies).toSorted(), names.toSorted(), heading);
  }
});

Deno.test("Tokenizing passes on whether a conversation gets special tokens", async () => {
  for (const add_special_tokens of [undefined, false, true]) {
    const llm = new WatchedLLM();
    const response = await send(post("/tokenize", { ...HELLO, add_special_tokens }), llm);
    await response.body?.cancel();
    assertEquals(llm.rendered[0]?.options.addSpecialTokens, add_special_tokens ?? false);
  }
});

Deno.test("Routes that are not there answer 404 or 405, and none of them is claimed", async () => {
  const routes = rows.filter(({ heading }) => heading === "Routes");
  for (const { names, word } of routes) {
    for (const name of names) {
      const [method, path] = name.split(" ") as [string, string];
      const url = path.replace("{id}", "fake%2Fmodel");
      const request = method === "GET" ? get(url) : post(url, {}, { method });
      const response = await send(request, new WatchedLLM(), { devMode: true });
      await response.body?.cancel();
      const isThere = word === "works" || word === "in part";
      const { status } = response;
      assertEquals(status !== 404 && status !== 405, isThere, `${name} is said to be "${word}"`);
    }
  }
});

Deno.test("A header that is ignored changes nothing", async () => {
  const ignored = rows.filter(({ heading, word }) =>
    heading === "Request headers" && word === "ignored"
  );
  const answer = async (headers: Record<string, string>) => {
    const response = await send(post(CHAT, HELLO, { headers }));
    return [response.status, [...response.headers], stable(await response.text())];
  };
  const plain = await answer({});
  for (const name of ignored.flatMap(({ names }) => names)) {
    assertEquals(await answer({ [name]: "1" }), plain, name);
  }
});
