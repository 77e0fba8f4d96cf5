/**
 * How the host and its processing elements meet: one command at a time, in shared memory.
 *
 * The host posts a command and awaits its end without blocking; the elements sleep between
 * commands and spin for a bounded time inside one, because a machine is never quiet.
 *
 * ```text
 * host      post(k) ─────────────────────────────▶ await done = k
 * element   wait for k → run ─ barrier ─ barrier ─ arrive; the last one sets done = k
 * ```
 *
 * The host watches the barriers go by. Where an element has died or nothing moves for too long, it
 * abandons the queue with all its elements and starts new ones (`pe.ts`).
 *
 * An element that fails raises a flag; the others see it at their next barrier and give up the
 * command too, so that every command ends.
 */

import { invariant } from "../../base/invariant.ts";

/** What a command asks for. */
export const COMMAND = { run: 1, loadWire: 2, trace: 3, stop: 4, pack: 5, recheck: 6 } as const;

/** Ways to go wrong on request, so that tests can see what comes of them. */
export const FAULT = { none: 0, crash: 1, stall: 2, exit: 3 } as const;

/** One command as the elements receive it. */
export interface PostedCommand {
  readonly kind: number;
  readonly arguments: readonly [number, number, number, number];
}

// Cells of the shared Int32Array. Cells that different threads poll lie 64 bytes apart.
const SEQUENCE = 0;
const KIND = 1;
const ARGUMENTS = 2; // and three more
const COMMAND_SLEEPERS = 6;
const DONE = 16;
const ARRIVED = 32;
const FAILED = 33; // 0, or 1 + index of the element that failed first
const GENERATION = 48;
const BARRIER_COUNT = 64;
const BARRIER_SLEEPERS = 65;
const READY = 80;
const MESSAGE_LENGTH = 81;
const FAULTY_PE = 82; // 0, or 1 + index of the element that goes wrong at its next step
const FAULT_KIND = 83;
const CELL_COUNT = 96;
const MESSAGE_BYTES = 2048;

/** About 0.2 ms: longer than any stretch between barriers on a machine to ourselves. */
const SPIN_COUNT = 20_000;
/** Hardly longer than a barrier takes when all arrive together. */
const SHORT_SPIN_COUNT = 100;
/** So many long spins in vain mean that the others have no core to arrive on. */
const VAIN_SPINS_MAX = 4;
/** While spinning is in vain, one barrier of so many tries it again. */
const TRY_AGAIN_EVERY = 64;
/** How long a sleeper sleeps before it looks for a failure again. */
const SLEEP_MS = 100;

/** Thrown inside an element when another one has failed. */
export class InterruptedCommand extends Error {
  override name = "InterruptedCommand";
}

/** The shared cells; the host and every element hold one over the same buffer. */
export class CommandQueue {
  readonly buffer: SharedArrayBuffer;
  readonly peCount: number;
  readonly #cells: Int32Array<SharedArrayBuffer>;
  readonly #message: Uint8Array<SharedArrayBuffer>;
  /** Barriers in a row, this element's own, at which spinning did not help. */
  #vainSpins = 0;

  constructor(peCount: number, buffer?: SharedArrayBuffer) {
    this.peCount = peCount;
    this.buffer = buffer ?? new SharedArrayBuffer(CELL_COUNT * 4 + MESSAGE_BYTES);
    this.#cells = new Int32Array(this.buffer, 0, CELL_COUNT);
    this.#message = new Uint8Array(this.buffer, CELL_COUNT * 4, MESSAGE_BYTES);
  }

  // The host's side.

  /** Posts a command; nothing may be under way. Returns its number. */
  post(command: PostedCommand): number {
    const cells = this.#cells;
    invariant(
      Atomics.load(cells, DONE) === Atomics.load(cells, SEQUENCE),
      "A command is posted while another is under way",
    );
    Atomics.store(cells, ARRIVED, 0);
    Atomics.store(cells, FAILED, 0);
    Atomics.store(cells, BARRIER_COUNT, 0);
    Atomics.store(cells, KIND, command.kind);
    command.arguments.forEach((value, i) => Atomics.store(cells, ARGUMENTS + i, value | 0));
    const sequence = (Atomics.add(cells, SEQUENCE, 1) + 1) | 0;
    if (Atomics.load(cells, COMMAND_SLEEPERS) > 0) Atomics.notify(cells, SEQUENCE);
    return sequence;
  }

  /** Waits up to `timeoutMs` for the command to end; true when it has. */
  async waitDone(sequence: number, timeoutMs: number): Promise<boolean> {
    const cells = this.#cells;
    const seen = Atomics.load(cells, DONE);
    if (seen === sequence) return true;
    const waiting = Atomics.waitAsync(cells, DONE, seen, timeoutMs);
    if (waiting.async) await waiting.value;
    return Atomics.load(cells, DONE) === sequence;
  }

  /** Wakes the host where it waits for a command, to look what has happened. */
  wakeHost(): void {
    Atomics.notify(this.#cells, DONE);
  }

  /** A number that changes whenever an element reaches a barrier or the end of a command. */
  progress(): number {
    const cells = this.#cells;
    // At most 64 elements wait at a barrier and at the end, so the three numbers do not mix.
    return Atomics.load(cells, GENERATION) * 2 ** 14 + Atomics.load(cells, BARRIER_COUNT) * 2 ** 7 +
      Atomics.load(cells, ARRIVED);
  }

  /** Gives the elements up: those that still listen leave the command and stop. */
  abandon(): void {
    const cells = this.#cells;
    Atomics.compareExchange(cells, FAILED, 0, 1);
    Atomics.store(cells, KIND, COMMAND.stop);
    Atomics.add(cells, SEQUENCE, 1);
    Atomics.notify(cells, SEQUENCE);
    Atomics.notify(cells, GENERATION);
  }

  /** Makes an element go wrong when it next runs a wire. */
  setFault(peIndex: number, fault: number): void {
    Atomics.store(this.#cells, FAULT_KIND, fault);
    Atomics.store(this.#cells, FAULTY_PE, peIndex + 1);
  }

  /** Waits until all elements listen. */
  async waitReady(timeoutMs: number): Promise<boolean> {
    const seen = Atomics.load(this.#cells, READY);
    if (seen === this.peCount) return true;
    const waiting = Atomics.waitAsync(this.#cells, READY, seen, timeoutMs);
    if (waiting.async) await waiting.value;
    return Atomics.load(this.#cells, READY) === this.peCount;
  }

  /** The first failure of the command that just ended, as text. */
  failure(): string | undefined {
    if (Atomics.load(this.#cells, FAILED) === 0) return undefined;
    const length = Atomics.load(this.#cells, MESSAGE_LENGTH);
    return new TextDecoder().decode(this.#message.slice(0, length));
  }

  // The elements' side.

  /** Reports that this element listens; returns the number of the last command so far. */
  ready(): number {
    // Read before reporting: a command posted right after the report must not be missed.
    const sequence = Atomics.load(this.#cells, SEQUENCE);
    Atomics.add(this.#cells, READY, 1);
    Atomics.notify(this.#cells, READY);
    return sequence;
  }

  /** Blocks until a command after number `seen` is posted; returns its number. */
  next(seen: number): number {
    const cells = this.#cells;
    for (let i = 0; i < SPIN_COUNT; i++) {
      const sequence = Atomics.load(cells, SEQUENCE);
      if (sequence !== seen) return sequence;
    }
    Atomics.add(cells, COMMAND_SLEEPERS, 1);
    while (Atomics.load(cells, SEQUENCE) === seen) Atomics.wait(cells, SEQUENCE, seen);
    Atomics.sub(cells, COMMAND_SLEEPERS, 1);
    return Atomics.load(cells, SEQUENCE);
  }

  /** The command that {@linkcode next} announced. */
  current(): PostedCommand {
    const cells = this.#cells;
    const argument = (i: number) => Atomics.load(cells, ARGUMENTS + i);
    return {
      kind: Atomics.load(cells, KIND),
      arguments: [argument(0), argument(1), argument(2), argument(3)],
    };
  }

  /** How this element is asked to go wrong now. */
  takeFault(peIndex: number): number {
    const isMine = Atomics.compareExchange(this.#cells, FAULTY_PE, peIndex + 1, 0) === peIndex + 1;
    return isMine ? Atomics.load(this.#cells, FAULT_KIND) : FAULT.none;
  }

  /** Returns when every element has called it. Throws when one of them has failed instead. */
  barrier(): void {
    const cells = this.#cells;
    // Seen by an element that was given up and comes back to life, too: the host cannot always end
    // a thread that is stuck, so it must leave by itself before it writes any more.
    if (Atomics.load(cells, FAILED) !== 0) {
      throw new InterruptedCommand("Another processing element failed");
    }
    if (this.peCount === 1) {
      Atomics.add(cells, GENERATION, 1); // the host watches it
      return;
    }
    const generation = Atomics.load(cells, GENERATION);
    if (Atomics.add(cells, BARRIER_COUNT, 1) + 1 === this.peCount) {
      Atomics.store(cells, BARRIER_COUNT, 0);
      Atomics.add(cells, GENERATION, 1);
      if (Atomics.load(cells, BARRIER_SLEEPERS) > 0) Atomics.notify(cells, GENERATION);
      return;
    }
    const spinCount = this.#spinCount();
    for (let i = 0; i < spinCount; i++) {
      if (Atomics.load(cells, GENERATION) === generation) continue;
      this.#vainSpins = 0;
      return;
    }
    this.#vainSpins++;
    Atomics.add(cells, BARRIER_SLEEPERS, 1);
    try {
      while (Atomics.load(cells, GENERATION) === generation) {
        if (Atomics.load(cells, FAILED) !== 0) {
          throw new InterruptedCommand("Another processing element failed");
        }
        Atomics.wait(cells, GENERATION, generation, SLEEP_MS);
      }
    } finally {
      Atomics.sub(cells, BARRIER_SLEEPERS, 1);
    }
  }

  /**
   * How long to spin at this barrier. Spinning is right while every element has a core; when
   * another program takes one, a spinning element keeps the very core that the late one needs.
   */
  #spinCount(): number {
    if (this.#vainSpins < VAIN_SPINS_MAX) return SPIN_COUNT;
    return this.#vainSpins % TRY_AGAIN_EVERY === 0 ? SPIN_COUNT : SHORT_SPIN_COUNT;
  }

  /** Reports this element's failure; the first one is kept. */
  fail(peIndex: number, message: string): void {
    const cells = this.#cells;
    if (Atomics.compareExchange(cells, FAILED, 0, peIndex + 1) !== 0) return;
    const bytes = new TextEncoder().encode(message).slice(0, MESSAGE_BYTES);
    this.#message.set(bytes);
    Atomics.store(cells, MESSAGE_LENGTH, bytes.length);
    Atomics.notify(cells, GENERATION);
  }

  /** Reports that this element is through with the command; the last one wakes the host. */
  arrive(sequence: number): void {
    const cells = this.#cells;
    if (Atomics.add(cells, ARRIVED, 1) + 1 < this.peCount) return;
    Atomics.store(cells, DONE, sequence);
    Atomics.notify(cells, DONE);
  }
}
