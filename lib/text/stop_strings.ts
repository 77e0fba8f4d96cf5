/**
 * Finds the texts that end an answer while it grows, across the borders of its pieces.
 *
 *     text so far:  [ … sent … | looked at, held back | the new piece ]
 *                                └─ a stop may begin in here ─┘
 *
 * The stop that is complete earliest counts; of those that are complete at the same character, the
 * one that the caller named first. Where the stop itself is not to be shown, as many characters
 * are held back as the longest one could have begun with, so that nothing is sent that it would
 * take back.
 */

import { invariant } from "../base/invariant.ts";

/** What ends a text, and what is shown of it. */
export interface StopStringsOptions {
  /** None of them empty. */
  readonly stops: readonly string[];
  /** Show the stop too. */
  readonly includeStop: boolean;
  /** A stop that is complete before there are more tokens than this does not count. */
  readonly minTokens: number;
}

/** The search in one growing text. */
export class StopStrings {
  readonly #stops: readonly string[];
  readonly #includeStop: boolean;
  readonly #minTokens: number;
  /** UTF-16 units before a new piece in which a stop may have begun. */
  readonly #lookback: number;
  /** Characters that are held back. */
  readonly #heldCount: number;
  /** The end of the text: at least what was not sent yet, and what the next search looks back at. */
  #window = "";
  /** Units of the window that were sent. */
  #sentCount = 0;
  #found: string | null = null;

  constructor({ stops, includeStop, minTokens }: StopStringsOptions) {
    // A text holds whole characters, so half of one is never found, and never inside a whole one.
    this.#stops = stops.filter((stop) => stop.isWellFormed());
    this.#includeStop = includeStop;
    this.#minTokens = minTokens;
    this.#lookback = Math.max(1, ...this.#stops.map((stop) => stop.length)) - 1;
    const longest = Math.max(1, ...this.#stops.map((stop) => [...stop].length));
    this.#heldCount = includeStop ? 0 : longest - 1;
  }

  /** The stop that ended the text; null while none did. */
  get found(): string | null {
    return this.#found;
  }

  /**
   * Takes a piece of whole characters.
   *
   * @param tokenCount How many tokens there are with the one that completed the piece.
   * @returns What may be sent. After a stop was found: nothing.
   */
  push(piece: string, tokenCount: number): string {
    if (this.#found !== null) return "";
    if (this.#stops.length === 0) return piece;
    const searched = this.#window.length;
    this.#window += piece;
    if (tokenCount > this.#minTokens) {
      const cut = this.#search(searched);
      if (cut !== undefined) return this.#send(cut);
    }
    const text = this.#send(Math.max(this.#sentCount, this.#heldFrom()));
    const dropped = Math.min(this.#sentCount, Math.max(0, this.#window.length - this.#lookback));
    this.#window = this.#window.slice(dropped);
    this.#sentCount -= dropped;
    return text;
  }

  /** The text ended without a stop: what was held back. */
  finish(): string {
    return this.#found === null ? this.#send(this.#window.length) : "";
  }

  /** Where the text ends, if a stop is complete behind `searched`; notes which. */
  #search(searched: number): number | undefined {
    let start = 0;
    let end = Infinity;
    for (const stop of this.#stops) {
      const from = this.#window.indexOf(stop, Math.max(0, searched - stop.length + 1));
      if (from < 0 || from + stop.length >= end) continue;
      start = from;
      end = from + stop.length;
      this.#found = stop;
    }
    if (this.#found === null) return undefined;
    return this.#includeStop ? end : start;
  }

  /** The position from which characters are held back. */
  #heldFrom(): number {
    let position = this.#window.length;
    for (let count = 0; count < this.#heldCount && position > 0; count++) {
      const isPair = position > 1 && (this.#window.codePointAt(position - 2) ?? 0) > 0xffff;
      position -= isPair ? 2 : 1;
    }
    return position;
  }

  #send(end: number): string {
    invariant(end >= this.#sentCount, "A stop would take back text that was sent");
    const text = this.#window.slice(this.#sentCount, end);
    this.#sentCount = end;
    return text;
  }
}
