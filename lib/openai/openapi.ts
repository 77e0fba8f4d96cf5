/** The API document: an OpenAPI 3.1 description of a table of routes. */

import { VERSION } from "./version.ts";

/** A JSON Schema. */
export type Schema = Readonly<Record<string, unknown>>;

/** What the document says of a route. */
export interface DescribedRoute {
  readonly method: "GET" | "POST";
  /** A path; with `/*` at its end, whatever follows is handed to the route. */
  readonly path: string;
  /** What stands for the rest of such a path. */
  readonly rest?: string;
  readonly summary: string;
  /** The request's JSON body. */
  readonly body?: Schema;
  readonly bodyIsOptional?: boolean;
  /** What a success is answered with. */
  readonly answer: "json" | "json or events" | "text" | "nothing";
  /** Reachable without a key. */
  readonly open?: boolean;
  /** Only some models can serve it. */
  readonly task?: string;
  /** What failures without a body mean, by status. */
  readonly bodiless?: Readonly<Record<string, string>>;
}

/** What the document depends on besides the routes. */
export interface ApiSettings {
  readonly needsKey: boolean;
  readonly rootPath: string;
  /** A request that names another model is answered 404. */
  readonly strictModel: boolean;
}

const ERROR: Schema = {
  type: "object",
  required: ["error"],
  properties: {
    error: {
      type: "object",
      required: ["message", "type", "param", "code"],
      properties: {
        message: { type: "string" },
        type: { type: "string" },
        param: { type: ["string", "null"] },
        code: { type: "integer" },
      },
    },
  },
};

/** Describes the routes. Every answer that is not a success has one shape. */
export function openApiDocument(
  routes: readonly DescribedRoute[],
  settings: ApiSettings,
): Schema {
  const { rootPath } = settings;
  const paths: Record<string, Record<string, Schema>> = {};
  for (const route of routes) {
    const path = route.rest === undefined ? route.path : route.path.replace("*", `{${route.rest}}`);
    (paths[path] ??= {})[route.method.toLowerCase()] = operation(route, path, settings);
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "@rngd/llm",
      version: VERSION,
      description: "The API of OpenAI as vLLM and Furiosa-LLM extend it.",
    },
    ...(rootPath === "" ? {} : { servers: [{ url: rootPath }] }),
    paths,
    components: {
      schemas: { Error: ERROR },
      securitySchemes: { key: { type: "http", scheme: "bearer" } },
    },
  };
}

function operation(route: DescribedRoute, path: string, settings: ApiSettings): Schema {
  const { method, rest, summary, body, bodyIsOptional = false, open = false, bodiless = {} } =
    route;
  return {
    operationId: `${method.toLowerCase()}${path.replaceAll(/[^a-z0-9]+/gi, "_")}`
      .replace(/_$/, ""),
    summary,
    ...(rest === undefined ? {} : {
      parameters: [{ name: rest, in: "path", required: true, schema: { type: "string" } }],
    }),
    ...(body === undefined ? {} : {
      requestBody: {
        required: !bodyIsOptional,
        content: { "application/json": { schema: body } },
      },
    }),
    ...(settings.needsKey && !open ? { security: [{ key: [] }] } : {}),
    responses: {
      "200": success(route),
      ...Object.fromEntries(
        failures(route, settings).map(([status, description]) => [
          status,
          {
            description,
            content: {
              "application/json": { schema: { $ref: "#/components/schemas/Error" } },
            },
          },
        ]),
      ),
      ...Object.fromEntries(
        Object.entries(bodiless).map(([status, description]) => [status, { description }]),
      ),
    },
  };
}

function success({ answer }: DescribedRoute): Schema {
  const json = { "application/json": { schema: { type: "object" } } };
  switch (answer) {
    case "json":
      return { description: "The answer", content: json };
    case "json or events":
      return {
        description: "The answer; with `stream` events of it, then `[DONE]`",
        content: { ...json, "text/event-stream": { schema: { type: "string" } } },
      };
    case "text":
      return {
        description: "The answer",
        content: { "text/plain": { schema: { type: "string" } } },
      };
    case "nothing":
      return { description: "Done; without a body" };
    default:
      return answer satisfies never;
  }
}

function failures(
  route: DescribedRoute,
  { needsKey, strictModel }: ApiSettings,
): [string, string][] {
  const { body, rest, task, open = false } = route;
  return [
    ...(body === undefined ? [] : [
      ["400", "A field that cannot be used; the message names it"],
      ["413", "A body that is too large"],
      ["415", "A body that is not JSON"],
    ] as [string, string][]),
    ...(needsKey && !open ? [["401", "No key, or a wrong one"]] as [string, string][] : []),
    ...(rest !== undefined || strictModel && body !== undefined
      ? [["404", "There is no such model"]] as [string, string][]
      : []),
    ...(task === undefined ? [] : [
      ["500", "A failure of the server"],
      ["503", "Too many requests wait already, or the server shuts down"],
    ] as [string, string][]),
  ];
}
