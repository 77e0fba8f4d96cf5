/** How Python spells values and dates: chat templates are written and tested there. */

/** A value of the template engine, as far as it matters here. */
export interface TemplateValue {
  readonly type: string;
  readonly value: unknown;
  toString(): string;
}

/** `str(value)` */
export function pythonText(value: TemplateValue): string {
  if (value.type === "UndefinedValue") return "";
  return value.type === "StringValue" ? value.value as string : represent(value);
}

/**
 * Calls `spend` with the length of every part that writing `value` out takes, near enough. Lists
 * that share entries can be far longer written out than they are in memory, so `spend` may throw.
 */
export function measureText(value: TemplateValue, spend: (length: number) => void): void {
  const content = value.value;
  if (typeof content === "string") {
    spend(content.length + 2);
  } else if (Array.isArray(content)) {
    spend(2);
    for (const item of content) measureText(item, spend);
  } else if (content instanceof Map) {
    spend(2);
    for (const [key, item] of content) {
      spend(key.length + 4);
      measureText(item, spend);
    }
  } else {
    spend(4);
  }
}

/** `repr(value)` */
function represent(value: TemplateValue): string {
  switch (value.type) {
    case "NullValue":
      return "None";
    case "UndefinedValue":
      return "Undefined";
    case "BooleanValue":
      return value.value === true ? "True" : "False";
    case "StringValue":
      return quote(value.value as string);
    case "ArrayValue":
      return `[${representAll(value)}]`;
    case "TupleValue": // of two or more: the engine cannot make shorter ones
      return `(${representAll(value)})`;
    case "ObjectValue":
    case "NamespaceValue":
    case "KeywordArgumentsValue": {
      const entries = [...value.value as Map<string, TemplateValue>];
      return `{${entries.map(([key, item]) => `${quote(key)}: ${represent(item)}`).join(", ")}}`;
    }
    default:
      return value.toString(); // numbers; functions have no spelling worth matching
  }
}

function representAll(value: TemplateValue): string {
  return (value.value as TemplateValue[]).map(represent).join(", ");
}

const ESCAPES: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Single quotes, unless only double ones save an escape. */
function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replaceAll(/[\\\p{Cc}\p{Zl}\p{Zp}]|\p{Zs}/gu, (character) => {
    if (character === " ") return character;
    if (character === "\\") return "\\\\";
    const code = character.codePointAt(0) as number;
    return ESCAPES[character] ??
      (code < 256
        ? `\\x${code.toString(16).padStart(2, "0")}`
        : `\\u${code.toString(16).padStart(4, "0")}`);
  });
  return mark + escaped.replaceAll(mark, `\\${mark}`) + mark;
}

const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
] as const;

const DAYS = [
  "Sunday",
  "Monday",
  "Tuesday",
  "Wednesday",
  "Thursday",
  "Friday",
  "Saturday",
] as const;

/** `strftime` in local time with English names; directives it does not know stay as they are. */
export function strftime(date: Date, format: string): string {
  return format.replaceAll(/%(-?)([a-zA-Z%])/g, (whole, plain: string, directive: string) => {
    const text = formatOne(date, directive);
    if (text === undefined) return whole;
    return plain === "-" ? text.replace(/^0+(?=\d)/, "") : text;
  });
}

function formatOne(date: Date, directive: string): string | undefined {
  const month = MONTHS[date.getMonth()] as string;
  const day = DAYS[date.getDay()] as string;
  switch (directive) {
    case "Y":
      return String(date.getFullYear());
    case "y":
      return pad(date.getFullYear() % 100);
    case "m":
      return pad(date.getMonth() + 1);
    case "d":
      return pad(date.getDate());
    case "e":
      return String(date.getDate()).padStart(2, " ");
    case "B":
      return month;
    case "b":
    case "h":
      return month.slice(0, 3);
    case "A":
      return day;
    case "a":
      return day.slice(0, 3);
    case "H":
      return pad(date.getHours());
    case "I":
      return pad((date.getHours() + 11) % 12 + 1);
    case "p":
      return date.getHours() < 12 ? "AM" : "PM";
    case "M":
      return pad(date.getMinutes());
    case "S":
      return pad(date.getSeconds());
    case "j":
      return pad(dayOfYear(date), 3);
    case "F":
      return strftime(date, "%Y-%m-%d");
    case "T":
      return strftime(date, "%H:%M:%S");
    case "%":
      return "%";
    default:
      return undefined;
  }
}

function dayOfYear(date: Date): number {
  const start = Date.UTC(date.getFullYear(), 0, 0);
  return (Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - start) / 86_400_000;
}

function pad(value: number, width = 2): string {
  return String(value).padStart(width, "0");
}
