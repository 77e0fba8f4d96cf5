/** The thread that tokenizes long texts: first the pieces of a tokenizer, then one answer a request. */

import { forcedTokenIds } from "./forced_text.ts";
import { sendError } from "./sent_error.ts";
import { loadSlowEngine } from "./slow_engine.ts";
import { Tokenizer } from "./tokenizer.ts";
import { TokenizerParts } from "./tokenizer_parts.ts";
import type { ThreadMessage, TokenizerReply, TokenizerRequest } from "./tokenizer_thread.ts";

/** What a worker's global scope has, and a window's has not. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<ThreadMessage>) => void) | null;
  postMessage(reply: TokenizerReply, transfer: Transferable[]): void;
}

function serve(scope: WorkerScope): void {
  const parts = new TokenizerParts();
  scope.onmessage = async ({ data }) => {
    if (data.kind === "part") return parts.add(data.part);
    if (data.kind !== "end") throw new TypeError("A request came before the tokenizer");
    const { source, file } = parts.finish();
    const create = data.mode === "slow" ? await loadSlowEngine() : undefined;
    const tokenizer = Tokenizer.fromSource(source, file, create);
    scope.onmessage = ({ data }) => {
      const reply = answer(tokenizer, data as TokenizerRequest);
      scope.postMessage(reply, reply.kind === "ids" ? [reply.ids.buffer] : []);
    };
    scope.postMessage({ kind: "ready" }, []);
  };
}

function answer(tokenizer: Tokenizer, request: TokenizerRequest): TokenizerReply {
  try {
    switch (request.kind) {
      case "encode":
        return { kind: "ids", ids: Int32Array.from(tokenizer.encode(request.text, request)) };
      case "decode":
        return { kind: "text", text: tokenizer.decode([...request.ids], request) };
      case "force": {
        const ids = forcedTokenIds(request.text, tokenizer, request.promptTail);
        return { kind: "ids", ids: Int32Array.from(ids) };
      }
      default:
        return request satisfies never;
    }
  } catch (error) {
    return { kind: "error", error: sendError(error) };
  }
}

serve(globalThis as unknown as WorkerScope);
