/** The alphabet in which byte-level vocabularies spell bytes: one printable character a byte. */

/** byte → character. Printable bytes stand for themselves, the other 68 for U+0100 and up. */
export const BYTE_CHARACTERS: readonly string[] = spellBytes();

const BYTES: ReadonlyMap<string, number> = new Map(
  BYTE_CHARACTERS.map((character, byte) => [character, byte]),
);

/** The bytes that `piece` spells, or undefined if a character of it is not of the alphabet. */
export function bytesOfPiece(piece: string): Uint8Array | undefined {
  const bytes = new Uint8Array(piece.length); // every character of the alphabet is one code unit
  for (let i = 0; i < piece.length; i++) {
    const byte = BYTES.get(piece[i] as string);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}

function spellBytes(): string[] {
  let other = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    return String.fromCharCode(printable ? byte : other++);
  });
}
