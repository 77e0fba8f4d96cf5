/** Damaged copies of a valid file, from a seed: what a header reader must withstand. */

/** A small generator: the same seed gives the same numbers. */
export function seededRandom(seed: number): (limit: number) => number {
  let state = seed >>> 0;
  return (limit) => {
    // mulberry32
    state = state + 0x6d2b79f5 | 0;
    let mixed = Math.imul(state ^ state >>> 15, state | 1);
    mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61);
    return ((mixed ^ mixed >>> 14) >>> 0) % limit;
  };
}

/** Bytes that turn small numbers into large ones, and structure into other structure. */
const TELLING_BYTES = [0x00, 0x01, 0x7f, 0x80, 0xff, 0x22, 0x5b, 0x7b, 0x7d, 0x30, 0x39, 0x2d];

/** A copy of `bytes` with one to three wounds, most of them within the first `headerSize` bytes. */
export function mutate(
  bytes: Uint8Array,
  headerSize: number,
  random: (limit: number) => number,
): Uint8Array<ArrayBuffer> {
  let mutated = Uint8Array.from(bytes);
  for (let wound = random(3); wound >= 0; wound--) {
    const at = random(headerSize);
    switch (random(6)) {
      case 0: // a bit flips
        mutated[at] = (mutated[at] ?? 0) ^ 1 << random(8);
        break;
      case 1: // a byte is something telling
        mutated[at] = TELLING_BYTES[random(TELLING_BYTES.length)] as number;
        break;
      case 2: // eight bytes claim a lot
        mutated.fill(0xff, at, at + 1 + random(8));
        break;
      case 3: // the file ends early
        mutated = mutated.slice(0, random(mutated.byteLength + 1));
        break;
      case 4: // bytes are missing
        mutated = Uint8Array.from([...mutated.slice(0, at), ...mutated.slice(at + 1 + random(9))]);
        break;
      default: { // a piece appears twice
        const end = at + 1 + random(40);
        mutated = Uint8Array.from([...mutated.slice(0, end), ...mutated.slice(at)]);
      }
    }
  }
  return mutated;
}
