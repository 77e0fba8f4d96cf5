/** A folder of model files: reads the small ones, and keeps links from leading out of it. */

import { CheckpointError } from "../base/errors.ts";
import { repeatedKey } from "./formats/repeated_key.ts";

/** The largest known file of this kind, a tokenizer.json, has 33 MB. */
const TEXT_SIZE_MAX_BYTES = 256 * 1024 * 1024;

/** What the system will not do, a file without permission for example, is refused by its path. */
function orRefuse<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (error instanceof CheckpointError) throw error;
    throw new CheckpointError(path, `Cannot read "${path}": ${(error as Error).message}`, {
      cause: error,
    });
  }
}

/** The files of one model, by plain name. */
export class ModelFolder {
  readonly path: string;
  /** Where files may really be: in the folder, or with the blobs of the same hub cache entry. */
  readonly #realRoots: readonly string[];

  constructor(path: string) {
    this.path = path.replace(/(?<=.)[\\/]+$/, "");
    const real = orRefuse(this.path, () => Deno.realPathSync(path));
    // A module's files lie one folder deeper than the model's.
    const repository = /^(.*[\\/])snapshots[\\/][^\\/]+(?:[\\/][^\\/]+)?$/.exec(real)?.[1];
    this.#realRoots = [real, ...(repository === undefined ? [] : [`${repository}blobs`])];
  }

  /** A folder directly inside this one. Its name comes from a file and must not lead elsewhere. */
  subfolder(name: string): ModelFolder {
    const path = this.nameOf(name);
    const isPlain = /^[^\\/:\0]{1,240}$/.test(name) && name !== "." && name !== "..";
    if (!isPlain || !this.has(name)) {
      throw new CheckpointError(
        path,
        `Cannot open "${path}": it must be a folder directly inside the model's`,
      );
    }
    const real = orRefuse(path, () => Deno.realPathSync(path));
    const isInside = real.slice(0, -name.length - 1) === this.#realRoots[0] && real.endsWith(name);
    if (!isInside || !Deno.statSync(real).isDirectory) {
      throw new CheckpointError(
        path,
        `Cannot open "${path}": it must be a folder inside the model's, and is "${real}"`,
      );
    }
    return new ModelFolder(path);
  }

  /** How a file is called in messages, and opened. */
  nameOf(name: string): string {
    return `${this.path}/${name}`;
  }

  has(name: string): boolean {
    return orRefuse(this.nameOf(name), () => {
      try {
        Deno.lstatSync(this.nameOf(name));
        return true;
      } catch (error) {
        if (error instanceof Deno.errors.NotFound) return false;
        throw error;
      }
    });
  }

  /** The names of everything in the folder that `accepts` likes, sorted. */
  names(accepts: (name: string) => boolean): string[] {
    const entries = orRefuse(this.path, () => [...Deno.readDirSync(this.path)]);
    return entries.map(({ name }) => name).filter(accepts).toSorted();
  }

  /** The path of a file that is there, as a regular file, inside the folder. */
  locate(name: string): string {
    const path = this.nameOf(name);
    let real: string;
    try {
      real = Deno.realPathSync(path);
    } catch (error) {
      const why = error instanceof Deno.errors.NotFound ? "there is no such file" : String(error);
      throw new CheckpointError(path, `Cannot open "${path}": ${why}`, { cause: error });
    }
    const isInside = this.#realRoots.some((root) =>
      real.startsWith(root) && /^[\\/][^\\/]+$/.test(real.slice(root.length))
    );
    if (!isInside) {
      throw new CheckpointError(
        path,
        `Cannot open "${path}": it links to "${real}", outside the model's folder`,
      );
    }
    if (!Deno.statSync(real).isFile) {
      throw new CheckpointError(path, `Cannot open "${path}": it must be a regular file`);
    }
    return path;
  }

  readText(name: string): string {
    const path = this.locate(name);
    const { size } = orRefuse(path, () => Deno.statSync(path));
    if (size > TEXT_SIZE_MAX_BYTES) {
      throw new CheckpointError(
        path,
        `Cannot read "${path}": it has ${size} bytes, at most ${TEXT_SIZE_MAX_BYTES} can be read`,
      );
    }
    const bytes = orRefuse(path, () => Deno.readFileSync(path));
    try {
      return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      throw new CheckpointError(path, `Cannot read "${path}": it is not valid UTF-8`, {
        cause: error,
      });
    }
  }

  /** A file of settings: none of them may be there twice. */
  readJson(name: string): unknown {
    const text = this.readText(name);
    const value = this.#parse(name, text);
    const key = repeatedKey(text);
    if (key !== undefined) {
      const path = this.nameOf(name);
      throw new CheckpointError(
        path,
        `Cannot read "${path}": the key ${JSON.stringify(key)} appears twice in one object`,
      );
    }
    return value;
  }

  /** A file of a vocabulary, too large to be looked through key by key. */
  readVocabulary(name: string): unknown {
    return this.#parse(name, this.readText(name));
  }

  #parse(name: string, text: string): unknown {
    try {
      return JSON.parse(text);
    } catch (error) {
      const path = this.nameOf(name);
      const why = (error as Error).message;
      throw new CheckpointError(path, `Cannot read "${path}": it is not valid JSON: ${why}`, {
        cause: error,
      });
    }
  }
}
