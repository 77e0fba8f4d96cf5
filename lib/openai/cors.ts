/** Cross-origin requests: which pages of other sites may read the answers. */

/** Answers a preflight request. */
export function preflight(request: Request, allow: string): Response {
  const headers = new Headers({
    "access-control-allow-methods": allow,
    "access-control-max-age": "600",
    allow,
  });
  const asked = request.headers.get("access-control-request-headers");
  if (asked !== null) headers.set("access-control-allow-headers", asked);
  return new Response(null, { status: 204, headers }); // the origin's headers come with every answer
}

/** Adds the headers a browser needs to hand the answer to the page. */
export function withCors(
  response: Response,
  request: Request,
  origins: readonly string[],
): Response {
  const origin = request.headers.get("origin");
  if (origin === null) return response;
  if (origins.includes("*")) {
    response.headers.set("access-control-allow-origin", "*");
  } else {
    response.headers.append("vary", "Origin");
    if (!origins.includes(origin)) return response;
    response.headers.set("access-control-allow-origin", origin);
  }
  response.headers.set("access-control-expose-headers", "x-request-id, retry-after");
  return response;
}
