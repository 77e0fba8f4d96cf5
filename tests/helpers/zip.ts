/** Writes small zip archives, for tests of what reads them. */

import { crc32 } from "node:zlib";

/** One file to be packed. */
export interface ZipMember {
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Compress it; otherwise it is stored as it is. */
  readonly deflate?: boolean;
}

/** Packs files into an archive: local headers with contents, the directory, the end record. */
export async function zip(members: readonly ZipMember[]): Promise<Uint8Array<ArrayBuffer>> {
  const body: Uint8Array[] = [];
  const directory: Uint8Array[] = [];
  let offset = 0;
  for (const { name, bytes, deflate = false } of members) {
    const nameBytes = new TextEncoder().encode(name);
    const packed = deflate ? await deflateRaw(bytes) : bytes;
    const common = fields(
      [2, 20],
      [2, 0],
      [2, deflate ? 8 : 0],
      [4, 0], // time and date
      [4, crc32(bytes)],
      [4, packed.length],
      [4, bytes.length],
      [2, nameBytes.length],
      [2, 0],
    );
    const local = join([fields([4, 0x04034b50]), common, nameBytes, packed]);
    directory.push(
      fields([4, 0x02014b50], [2, 20]),
      common,
      fields([2, 0], [2, 0], [2, 0], [4, 0], [4, offset]),
      nameBytes,
    );
    body.push(local);
    offset += local.length;
  }
  const listing = join(directory);
  const end = fields(
    [4, 0x06054b50],
    [4, 0],
    [2, members.length],
    [2, members.length],
    [4, listing.length],
    [4, offset],
    [2, 0],
  );
  return join([...body, listing, end]);
}

/** Little-endian numbers, each given as [width in bytes, value]. */
function fields(...numbers: (readonly [2 | 4, number])[]): Uint8Array {
  const out = new Uint8Array(numbers.reduce((sum, [width]) => sum + width, 0));
  const view = new DataView(out.buffer);
  let at = 0;
  for (const [width, value] of numbers) {
    if (width === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += width;
  }
  return out;
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

async function deflateRaw(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
  const stream = new Blob([bytes]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}
