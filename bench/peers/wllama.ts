/**
 * wllama under test: llama.cpp as WebAssembly in Chromium without a window, behind the bench's
 * questions.
 *
 * A server gives the browser a page, the package's files and the models, with the two headers that
 * isolate a page so that it may have threads. The page asks for questions and posts the answers.
 */

import { Wllama } from "@wllama/wllama";
import {
  answerQuestions,
  type Answers,
  type Question,
  type Reply,
} from "../contestants/protocol.ts";

/** Names under which the browser may be installed. */
const BROWSERS = ["chromium", "chromium-browser", "google-chrome"] as const;

/** A browser that has not come back by then does not work. */
const ANSWER_TIMEOUT_MS = 300_000;

const PACKAGE = new URL("./", import.meta.resolve("@wllama/wllama"));
const PAGE = new URL("./wllama_page.js", import.meta.url);

const HTML = `<!DOCTYPE html><script type="module" src="/page.js"></script>`;

const HEADERS = {
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
} as const;

const TYPES: Readonly<Record<string, string>> = {
  html: "text/html",
  js: "text/javascript",
  wasm: "application/wasm",
  gguf: "application/octet-stream",
};

/** The browser, and the server that it talks to. */
class Browser implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly #closing = new AbortController();
  readonly #profile: string;
  readonly #child: Deno.ChildProcess;
  #model: string | undefined;
  #question = Promise.withResolvers<Question>();
  #reply = Promise.withResolvers<Reply>();

  constructor(program: string) {
    this.#server = Deno.serve(
      { hostname: "127.0.0.1", port: 0, signal: this.#closing.signal, onListen() {} },
      (request) => this.#serve(request),
    );
    this.#profile = Deno.makeTempDirSync();
    this.#child = new Deno.Command(program, {
      args: [
        "--headless=new",
        "--no-sandbox", // which containers do not allow
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        `--user-data-dir=${this.#profile}`,
        `http://127.0.0.1:${this.#server.addr.port}/`,
      ],
      stdin: "null",
      stdout: "null",
      stderr: "null",
    }).spawn();
  }

  /** Hands the page a question and waits for its answer. */
  async ask(question: Question): Promise<Answers[keyof Answers]> {
    if (question.ask === "load") this.#model = question.path;
    this.#reply = Promise.withResolvers();
    this.#question.resolve(question);
    const late = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => late.reject(new Error(`the browser gave no answer within ${ANSWER_TIMEOUT_MS} ms`)),
      ANSWER_TIMEOUT_MS,
    );
    try {
      const reply = await Promise.race([this.#reply.promise, late.promise]);
      if ("error" in reply) throw new Error(reply.error);
      return reply.answer;
    } finally {
      clearTimeout(timer);
    }
  }

  async #serve(request: Request): Promise<Response> {
    const { pathname } = new URL(request.url);
    if (request.method === "POST") {
      const reply = await request.json();
      if (reply !== null) this.#reply.resolve(reply as Reply);
      const question = await this.#question.promise;
      this.#question = Promise.withResolvers();
      return Response.json(question, { headers: HEADERS });
    }
    const type = TYPES[pathname.slice(pathname.lastIndexOf(".") + 1)] ?? "text/html";
    const headers = { ...HEADERS, "content-type": type };
    if (pathname === "/") return new Response(HTML, { headers });
    const file = this.#fileOf(pathname);
    if (file === undefined) return new Response("not here", { status: 404, headers });
    return new Response((await Deno.open(file)).readable, { headers });
  }

  #fileOf(pathname: string): string | URL | undefined {
    if (pathname === "/page.js") return PAGE;
    if (pathname === "/model.gguf") return this.#model;
    if (pathname.startsWith("/wllama/")) return new URL(pathname.slice("/wllama/".length), PACKAGE);
    return undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // it has ended already
    }
    await this.#child.status;
    // The page's request for another question has no answer: nobody waits for it.
    this.#closing.abort();
    await removeProfile(this.#profile);
  }
}

/** The browser's own helpers outlive it for a moment, and still write. */
async function removeProfile(folder: string, triesLeft = 20): Promise<void> {
  try {
    await Deno.remove(folder, { recursive: true });
  } catch (error) {
    if (triesLeft === 0) throw error;
    await new Promise((resolve) => setTimeout(resolve, 100));
    await removeProfile(folder, triesLeft - 1);
  }
}

/** The first browser that is installed. */
async function findBrowser(): Promise<string> {
  for (const name of BROWSERS) {
    try {
      const { success } = await new Deno.Command(name, { args: ["--version"] }).output();
      if (success) return name;
    } catch (error) {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
  throw new Error(`there is no Chromium: none of ${BROWSERS.join(", ")} is on the path`);
}

let browser: Browser | undefined;

async function answer(question: Question): Promise<Answers[keyof Answers]> {
  // wllama does not start a second time in a page that has ended it: every model has its own browser.
  if (question.ask === "load") {
    await browser?.[Symbol.asyncDispose]();
    browser = new Browser(await findBrowser());
  }
  if (browser === undefined) throw new Error("no model is loaded");
  const answer = await browser.ask(question);
  if (question.ask !== "load") return answer;
  const engine = `wllama with llama.cpp ${Wllama.getLibllamaVersion()}`;
  return { ...answer as Answers["load"], engine };
}

await answerQuestions(answer);
await browser?.[Symbol.asyncDispose]();
Deno.exit(0);
