/** The thread that renders chat templates: one answer for every request, in order. */

import { CompiledTemplate } from "./chat_template.ts";
import { RenderLimitError } from "./render_budget.ts";
import type { RenderReply, RenderRequest } from "./text_worker.ts";

/** Templates kept compiled; the least recently used goes first. */
const TEMPLATE_COUNT_MAX = 16;

/** What a worker's global scope has, and a window's has not. */
interface WorkerScope {
  onmessage: ((event: MessageEvent<RenderRequest>) => void) | null;
  postMessage(reply: RenderReply): void;
}

function serve(scope: WorkerScope): void {
  const templates = new Map<string, CompiledTemplate>();
  scope.onmessage = ({ data }) => scope.postMessage(answer(templates, data));
  scope.postMessage({ kind: "ready" });
}

function answer(templates: Map<string, CompiledTemplate>, request: RenderRequest): RenderReply {
  try {
    const template = templates.get(request.source) ?? new CompiledTemplate(request.source);
    templates.delete(request.source); // and to the end, as the latest used
    templates.set(request.source, template);
    for (const oldest of templates.keys()) {
      if (templates.size <= TEMPLATE_COUNT_MAX) break;
      templates.delete(oldest);
    }
    return { kind: "text", text: template.render(request) };
  } catch (error) {
    if (error instanceof RenderLimitError) return { kind: "limit", message: error.message };
    const { name, message } = error as Error;
    return { kind: "error", raised: name === "TemplateRaised", message };
  }
}

serve(globalThis as unknown as WorkerScope);
