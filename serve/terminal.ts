/** What the command writes: lines, and progress that redraws itself on a terminal. */

import type { LoadProgress } from "../mod.ts";

/** Where to write, and how. */
export interface TerminalOptions {
  readonly write: (text: string) => void;
  /** Lines may be redrawn. */
  readonly isTerminal: boolean;
  readonly color: boolean;
  /** Milliseconds, for not drawing too often. Default: the real clock. */
  readonly now?: () => number;
}

/** The least important first. */
const LEVELS = ["trace", "debug", "info", "warning", "error", "critical"] as const;

/** How important a line is. */
export type LogLevel = typeof LEVELS[number];

const DRAW_INTERVAL_MS = 50;
/** Between lines that cannot be redrawn: a log should show that a long download goes on. */
const LINE_INTERVAL_MS = 30_000;
const BAR_WIDTH = 24;

/** See the file's header. */
export class Terminal {
  readonly #options: TerminalOptions;
  #level: LogLevel = "info";
  #label = "";
  #drawnAt = -Infinity;
  #lineOpen = false;

  constructor(options: TerminalOptions) {
    this.#options = options;
  }

  /** The process's standard error; colours only where they are wanted. */
  static stderr(): Terminal {
    const isTerminal = Deno.stderr.isTerminal();
    const encoder = new TextEncoder();
    return new Terminal({
      write: (text) => writeWhole(Deno.stderr, encoder.encode(text)),
      isTerminal,
      color: isTerminal && !Deno.noColor,
    });
  }

  /** From now on, writes only what is at least so important. */
  setLevel(level: LogLevel): void {
    this.#level = level;
  }

  /** Whether lines of this importance are written. */
  shows(level: LogLevel): boolean {
    return LEVELS.indexOf(level) >= LEVELS.indexOf(this.#level);
  }

  /** Writes a line. */
  say(text: string, level: LogLevel = "info"): void {
    if (!this.shows(level)) return;
    this.#closeLine();
    this.#options.write(`${text}\n`);
  }

  /** Writes a line that tells of something odd. */
  warn(text: string): void {
    this.say(`${this.#styled("33", "warning")}: ${text}`, "warning");
  }

  /** Writes a line that tells of a failure, at every level but the last one. */
  fail(text: string): void {
    this.say(`${this.#styled("31", "error")}: ${text}`, "error");
  }

  /** Writes what is known of a failure that nobody expected. */
  report(error: unknown): void {
    this.fail(error instanceof Error ? error.stack ?? error.message : String(error));
  }

  bold(text: string): string {
    return this.#styled("1", text);
  }

  /**
   * Shows how far something is. On a terminal one line is redrawn; elsewhere each label gets a
   * line when it begins, one when it is done, and one every half minute in between.
   */
  progress(label: string, done: number, total: number, unit: "bytes" | "count"): void {
    if (!this.shows("info")) return;
    const isNew = label !== this.#label;
    const isDone = done >= total;
    const now = (this.#options.now ?? (() => performance.now()))();
    if (isNew) {
      this.#closeLine();
      this.#label = label;
    } else if (!isDone && now - this.#drawnAt < this.#intervalMs) {
      return;
    } else if (isDone && !this.#lineOpen && this.#drawnAt === Infinity) {
      return; // said already
    }
    this.#drawnAt = isDone ? Infinity : now;
    const text = `${label} ${amount(done, total, unit)}`;
    if (!this.#options.isTerminal) return this.#options.write(`${text}\n`);
    this.#options.write(`\r\x1b[2K${bar(done, total)} ${text}`);
    this.#lineOpen = true;
    if (isDone) this.#closeLine();
  }

  get #intervalMs(): number {
    return this.#options.isTerminal ? DRAW_INTERVAL_MS : LINE_INTERVAL_MS;
  }

  #closeLine(): void {
    if (this.#lineOpen) this.#options.write("\n");
    this.#lineOpen = false;
  }

  #styled(code: string, text: string): string {
    return this.#options.color ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

/** Writes what it can: that nobody reads any more, or the disk is full, is no reason not to serve. */
function writeWhole(writer: { writeSync(bytes: Uint8Array): number }, bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.length;) at += writer.writeSync(bytes.subarray(at));
  } catch {
    // There is no other place to tell of it.
  }
}

const BYTES_OF = { download: "Downloading", read: "Reading weights" } as const;

/** Shows how far the loading of a model is. */
export function showLoading(terminal: Terminal): (progress: LoadProgress) => void {
  return ({ stage, done, total }) => {
    if (stage === "compile") terminal.progress("Compiling", done, total, "count");
    else terminal.progress(BYTES_OF[stage], done, total, "bytes");
  };
}

function bar(done: number, total: number): string {
  const filled = Math.round(BAR_WIDTH * Math.min(1, total > 0 ? done / total : 1));
  return `[${"#".repeat(filled)}${"-".repeat(BAR_WIDTH - filled)}]`;
}

function amount(done: number, total: number, unit: "bytes" | "count"): string {
  const percent = total > 0 ? Math.floor(100 * Math.min(1, done / total)) : 100;
  if (unit === "count") return `${done} of ${total} (${percent} %)`;
  return `${megabytes(done)} of ${megabytes(total)} MB (${percent} %)`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
