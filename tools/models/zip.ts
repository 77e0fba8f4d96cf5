/** Reads one file out of a zip archive on disk, as a stream: as much of the format as a Python wheel needs. */

/** One file inside an archive. */
export interface ZipEntry {
  readonly name: string;
  /** Size of the contents. */
  readonly sizeBytes: number;
  readonly compressedBytes: number;
  /** 0 stored, 8 deflate. */
  readonly method: number;
  readonly localHeaderOffset: number;
}

const END_SIGNATURE = 0x06054b50;
const CENTRAL_SIGNATURE = 0x02014b50;
const LOCAL_SIGNATURE = 0x04034b50;
const END_SIZE = 22;
const CENTRAL_SIZE = 46;
const LOCAL_SIZE = 30;
/** The end record may be followed by a comment whose length is a 16-bit number. */
const TAIL_SIZE_MAX = END_SIZE + 0xffff;
/** This value in a 32-bit field says that the real one is in a ZIP64 record. */
const IN_ZIP64 = 0xffffffff;
const CHUNK_SIZE = 1 << 18;

/**
 * Lists the files of an archive from its central directory.
 *
 * @throws {SyntaxError} if the file is no complete zip archive, or is one of the ZIP64 kind.
 */
export async function readZipDirectory(path: string): Promise<ZipEntry[]> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  const tailSize = Math.min(size, TAIL_SIZE_MAX);
  const tail = await readAt(file, path, size - tailSize, tailSize);
  let end = tailSize - END_SIZE;
  while (end >= 0 && tail.getUint32(end, true) !== END_SIGNATURE) end--;
  if (end < 0) throw malformed(path, "it has no end record, so it may be cut short");
  const count = tail.getUint16(end + 10, true);
  const directorySize = tail.getUint32(end + 12, true);
  const directoryOffset = tail.getUint32(end + 16, true);
  if (directoryOffset === IN_ZIP64) throw malformed(path, "it is of the ZIP64 kind");
  if (directoryOffset + directorySize > size) {
    throw malformed(path, "its directory lies beyond its end");
  }
  return parseDirectory(await readAt(file, path, directoryOffset, directorySize), count, path);
}

/**
 * Streams the contents of one file of an archive. The archive stays open until the stream ends or
 * is cancelled. A damaged archive fails the stream.
 */
export async function openZipEntry(
  path: string,
  entry: ZipEntry,
): Promise<ReadableStream<Uint8Array<ArrayBuffer>>> {
  if (entry.method !== 0 && entry.method !== 8) {
    throw malformed(
      path,
      `"${entry.name}" is packed by method ${entry.method}, not stored or deflated`,
    );
  }
  const file = await Deno.open(path);
  try {
    const header = await readAt(file, path, entry.localHeaderOffset, LOCAL_SIZE);
    if (header.getUint32(0, true) !== LOCAL_SIGNATURE) {
      throw malformed(path, `"${entry.name}" is not where the directory says`);
    }
    const start = entry.localHeaderOffset + LOCAL_SIZE +
      header.getUint16(26, true) + header.getUint16(28, true);
    await file.seek(start, Deno.SeekMode.Start);
  } catch (error) {
    file.close();
    throw error;
  }
  const packed = streamBytes(file, path, entry.compressedBytes);
  return entry.method === 0 ? packed : packed.pipeThrough(new DecompressionStream("deflate-raw"));
}

function parseDirectory(view: DataView, count: number, path: string): ZipEntry[] {
  const decoder = new TextDecoder();
  const entries: ZipEntry[] = [];
  let at = 0;
  for (let index = 0; index < count; index++) {
    if (at + CENTRAL_SIZE > view.byteLength || view.getUint32(at, true) !== CENTRAL_SIGNATURE) {
      throw malformed(path, `entry ${index} of its directory is broken`);
    }
    const nameSize = view.getUint16(at + 28, true);
    const next = at + CENTRAL_SIZE + nameSize +
      view.getUint16(at + 30, true) + view.getUint16(at + 32, true);
    if (next > view.byteLength) {
      throw malformed(path, `entry ${index} of its directory is cut short`);
    }
    entries.push({
      name: decoder.decode(
        new Uint8Array(view.buffer, view.byteOffset + at + CENTRAL_SIZE, nameSize),
      ),
      method: view.getUint16(at + 10, true),
      compressedBytes: view.getUint32(at + 20, true),
      sizeBytes: view.getUint32(at + 24, true),
      localHeaderOffset: view.getUint32(at + 42, true),
    });
    at = next;
  }
  return entries;
}

function streamBytes(
  file: Deno.FsFile,
  path: string,
  byteCount: number,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  let left = byteCount;
  return new ReadableStream({
    async pull(controller) {
      if (left === 0) {
        file.close();
        controller.close();
        return;
      }
      const chunk = new Uint8Array(Math.min(left, CHUNK_SIZE));
      const read = await file.read(chunk);
      if (read === null) {
        file.close();
        throw malformed(path, `it ends ${left} bytes too early`);
      }
      left -= read;
      controller.enqueue(chunk.subarray(0, read));
    },
    cancel() {
      file.close();
    },
  }, { highWaterMark: 0 });
}

async function readAt(
  file: Deno.FsFile,
  path: string,
  offset: number,
  byteCount: number,
): Promise<DataView> {
  await file.seek(offset, Deno.SeekMode.Start);
  const bytes = new Uint8Array(byteCount);
  let filled = 0;
  while (filled < byteCount) {
    const read = await file.read(bytes.subarray(filled));
    if (read === null) throw malformed(path, `it ends before byte ${offset + byteCount}`);
    filled += read;
  }
  return new DataView(bytes.buffer);
}

function malformed(path: string, detail: string): SyntaxError {
  return new SyntaxError(`Cannot read "${path}" as a zip archive: ${detail}`);
}
