/** Cross-origin requests: which pages of other sites may send what, and read the answers. */

/** What pages of other origins may do. `"*"` in a list: everything. */
export interface CorsRules {
  readonly origins: readonly string[];
  readonly methods: readonly string[];
  readonly headers: readonly string[];
  /** They may send cookies. A browser then wants to read its own origin instead of `*`. */
  readonly credentials: boolean;
}

/** Answers a preflight request. `methods` are those of the route. */
export function preflight(
  request: Request,
  methods: readonly string[],
  rules: CorsRules,
): Response {
  const all = rules.methods.includes("*");
  const allowed = methods.filter((method) => all || rules.methods.includes(method));
  const headers = new Headers({
    "access-control-allow-methods": allowed.join(", "),
    "access-control-max-age": "600",
    allow: methods.join(", "),
  });
  const asked = request.headers.get("access-control-request-headers");
  if (!rules.headers.includes("*")) {
    headers.set("access-control-allow-headers", rules.headers.join(", "));
  } else if (asked !== null) {
    headers.set("access-control-allow-headers", asked);
  }
  return new Response(null, { status: 204, headers }); // the origin's headers come with every answer
}

/** Adds the headers a browser needs to hand the answer to the page. */
export function withCors(response: Response, request: Request, rules: CorsRules): Response {
  const origin = request.headers.get("origin");
  if (origin === null) return response;
  const all = rules.origins.includes("*");
  if (all && !rules.credentials) {
    response.headers.set("access-control-allow-origin", "*");
  } else {
    response.headers.append("vary", "Origin");
    if (!all && !rules.origins.includes(origin)) return response;
    response.headers.set("access-control-allow-origin", origin);
  }
  if (rules.credentials) response.headers.set("access-control-allow-credentials", "true");
  response.headers.set("access-control-expose-headers", "x-request-id, retry-after");
  return response;
}
