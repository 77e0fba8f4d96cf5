import { assertEquals } from "@std/assert";
import { STATUS_CODE, STATUS_TEXT } from "@std/http/status";

Deno.test("The status names have the numbers and phrases of the HTTP standard", () => {
  const rows = [
    [STATUS_CODE.OK, 200, "OK"],
    [STATUS_CODE.NoContent, 204, "No Content"],
    [STATUS_CODE.BadRequest, 400, "Bad Request"],
    [STATUS_CODE.Unauthorized, 401, "Unauthorized"],
    [STATUS_CODE.NotFound, 404, "Not Found"],
    [STATUS_CODE.MethodNotAllowed, 405, "Method Not Allowed"],
    [STATUS_CODE.ContentTooLarge, 413, "Content Too Large"],
    [STATUS_CODE.UnsupportedMediaType, 415, "Unsupported Media Type"],
    [STATUS_CODE.TooManyRequests, 429, "Too Many Requests"],
    [STATUS_CODE.InternalServerError, 500, "Internal Server Error"],
    [STATUS_CODE.ServiceUnavailable, 503, "Service Unavailable"],
  ] as const;
  for (const [code, expected, phrase] of rows) {
    assertEquals(code, expected);
    assertEquals(STATUS_TEXT[code], phrase);
  }
});

Deno.test("Every status name has one number, and every number a phrase", () => {
  const codes: number[] = Object.values(STATUS_CODE);
  assertEquals(new Set(codes).size, codes.length);
  assertEquals(Object.keys(STATUS_TEXT).map(Number).sort(), [...codes].sort());
});
