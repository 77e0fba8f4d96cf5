/** What a chat template's syntax tree tells about how to feed it and how to guard it. */

/** A node of the tree, whatever its kind. */
export interface TemplateNode {
  readonly type: string;
  readonly [key: string]: unknown;
}

/**
 * What becomes of a node's value:
 *
 * - `printed`: it goes into the output
 * - `text`: it is turned into text by `~` or a filter
 * - `iterated`: it is gone through one by one
 * - `counted`: its length is taken
 * - `serialized`: it is written as JSON
 * - `added`: it is an operand of `+`
 */
export type NodeRole = "printed" | "text" | "iterated" | "counted" | "serialized" | "added";

/** How a template wants its conversation. */
export interface TemplateFacts {
  /** It loops over the content of a message: content must be a list of parts. */
  readonly loopsOverContent: boolean;
  /** It asks whether content is a string, so both forms are fine. */
  readonly takesTextContent: boolean;
  /** It knows the role "developer". */
  readonly namesDeveloper: boolean;
  /** It loops over `tools` without asking first whether there are any. */
  readonly needsToolList: boolean;
  /** What becomes of each node's value; nodes that are missing have no role. */
  readonly roles: ReadonlyMap<object, NodeRole>;
}

/** Nodes that do something instead of having a value to print. */
const STATEMENTS = new Set([
  "Program",
  "Set",
  "If",
  "For",
  "Macro",
  "CallStatement",
  "FilterStatement",
  "Break",
  "Continue",
  "Comment",
]);

const FILTER_ROLES: ReadonlyMap<string, NodeRole> = new Map([
  ...["string", "trim", "upper", "lower", "title", "capitalize", "replace", "indent"]
    .map((name) => [name, "text"] as const),
  ...["list", "first", "last", "join", "sort", "unique", "map", "selectattr", "rejectattr"]
    .map((name) => [name, "iterated"] as const),
  ["length", "counted"],
  ["tojson", "serialized"],
]);

/** Reads the tree of a template once, when it is compiled. */
export function readFacts(program: TemplateNode, source: string): TemplateFacts {
  const nodes = allNodes(program);
  const isContent = contentTest(nodes);
  return {
    loopsOverContent: nodes.some((node) => node.type === "For" && isContent(iterated(node)) // `for part in message.content`
    ),
    takesTextContent: nodes.some((node) =>
      node.type === "TestExpression" && nameOf(node["test"]) === "string" &&
      isContent(node["operand"])
    ),
    namesDeveloper: source.includes("developer"),
    needsToolList: loopsUnchecked(program, "tools"),
    roles: readRoles(nodes),
  };
}

function readRoles(nodes: readonly TemplateNode[]): Map<object, NodeRole> {
  const roles = new Map<object, NodeRole>();
  const assign = (node: unknown, role: NodeRole) => {
    if (isNode(node)) roles.set(node, role);
  };
  for (const node of nodes) {
    for (const key of ["body", "alternate", "defaultBlock"]) {
      const block = node[key];
      if (!Array.isArray(block)) continue;
      for (const child of block) {
        if (isNode(child) && !STATEMENTS.has(child.type)) assign(child, "printed");
      }
    }
    const operator = node.type === "BinaryExpression" ? nameOf(node["operator"]) : "";
    if (operator === "~" || operator === "+") {
      assign(node["left"], operator === "~" ? "text" : "added");
      assign(node["right"], operator === "~" ? "text" : "added");
    } else if (node.type === "FilterExpression") {
      const role = FILTER_ROLES.get(filterName(node));
      if (role !== undefined) assign(node["operand"], role);
    } else if (node.type === "For") {
      assign(iterated(node), "iterated");
    }
  }
  return roles;
}

/** What a loop goes over, without its condition. */
function iterated(loop: TemplateNode): unknown {
  const iterable = loop["iterable"];
  return isNode(iterable) && iterable.type === "SelectExpression" ? iterable["lhs"] : iterable;
}

/**
 * Which expressions are the content of a message: `….content`, a variable of that name, and what
 * was assigned or passed from those, filtered, sliced or chosen between.
 */
function contentTest(nodes: readonly TemplateNode[]): (expression: unknown) => boolean {
  const names = new Set(["content"]);
  const isContent = (expression: unknown): boolean => {
    if (!isNode(expression)) return false;
    switch (expression.type) {
      case "Identifier":
        return names.has(nameOf(expression));
      case "FilterExpression":
        return isContent(expression["operand"]);
      case "SelectExpression":
        return isContent(expression["lhs"]);
      case "Ternary":
        return isContent(expression["trueExpr"]) || isContent(expression["falseExpr"]);
      case "MemberExpression": {
        const property = expression["property"];
        if (!isNode(property)) return false;
        if (property.type === "SliceExpression") return isContent(expression["object"]);
        // message.content and message["content"], but not message[content]
        const wanted = expression["computed"] === true ? "StringLiteral" : "Identifier";
        return property.type === wanted && nameOf(property) === "content";
      }
      default:
        return false;
    }
  };
  const macros = new Map(
    nodes.filter((node) => node.type === "Macro")
      .map((node) => [nameOf(node["name"]), node["args"]] as const),
  );
  let known = 0;
  while (known < names.size) { // until a round finds no further name
    known = names.size;
    for (const node of nodes) {
      if (node.type === "Set" && isContent(node["value"])) addName(node["assignee"], names);
      if (node.type !== "CallExpression" || !Array.isArray(node["args"])) continue;
      const parameters = macros.get(nameOf(node["callee"]));
      if (!Array.isArray(parameters)) continue;
      node["args"].forEach((argument, index) => {
        if (isContent(argument)) addName(parameters[index], names);
      });
    }
  }
  return isContent;
}

function addName(target: unknown, names: Set<string>): void {
  if (!isNode(target)) return;
  if (target.type === "Identifier") names.add(nameOf(target));
  if (target.type === "KeywordArgumentExpression") addName(target["key"], names); // with a default
}

/** Whether there is a loop over the variable `name` that no condition on that variable encloses. */
function loopsUnchecked(node: unknown, name: string): boolean {
  if (node instanceof Map) {
    return [...node].some(([key, value]) =>
      loopsUnchecked(key, name) || loopsUnchecked(value, name)
    );
  }
  if (Array.isArray(node)) return node.some((child) => loopsUnchecked(child, name));
  if (!isNode(node)) return false;
  if (node.type === "If" && mentions(node["test"], name)) return false;
  if (node.type === "For") {
    const target = iterated(node);
    if (isNode(target) && target.type === "Identifier" && nameOf(target) === name) return true;
  }
  return loopsUnchecked(children(node), name);
}

function mentions(node: unknown, name: string): boolean {
  return isNode(node) &&
    allNodes(node).some((inner) => inner.type === "Identifier" && nameOf(inner) === name);
}

function filterName(node: TemplateNode): string {
  const filter = node["filter"];
  return nameOf(isNode(filter) && filter.type === "CallExpression" ? filter["callee"] : filter);
}

/** The text of an identifier, literal or operator. */
function nameOf(node: unknown): string {
  const value = typeof node === "object" && node !== null ? (node as TemplateNode)["value"] : "";
  return typeof value === "string" ? value : "";
}

function allNodes(root: TemplateNode): TemplateNode[] {
  const nodes: TemplateNode[] = [];
  const waiting: unknown[] = [root];
  while (waiting.length > 0) {
    const item = waiting.pop();
    if (Array.isArray(item)) {
      for (const child of item) waiting.push(child);
    } else if (item instanceof Map) {
      for (const [key, value] of item) waiting.push(key, value);
    } else if (isNode(item)) {
      nodes.push(item);
      waiting.push(...children(item));
    }
  }
  return nodes;
}

function children(node: TemplateNode): unknown[] {
  return Object.values(node).filter((value) => typeof value === "object" && value !== null);
}

function isNode(value: unknown): value is TemplateNode {
  return typeof value === "object" && value !== null && !Array.isArray(value) &&
    typeof (value as TemplateNode).type === "string";
}
