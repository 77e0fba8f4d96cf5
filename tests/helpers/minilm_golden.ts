/** What all-MiniLM-L6-v2 makes of a few sentences, computed by its reference in float32. */

export interface MiniLMGolden {
  readonly sentences: readonly {
    readonly text: string;
    readonly ids: readonly number[];
    /** The first eight numbers of the mean of the hidden states. */
    readonly mean8: readonly number[];
    /** The same of the mean divided by its length. */
    readonly unit8: readonly number[];
    /** The first eight numbers of the first hidden state. */
    readonly cls8: readonly number[];
  }[];
  /** Cosines of all sentences with all. */
  readonly similarity: readonly (readonly number[])[];
}

/** Reads the file. */
export function minilmGolden(): MiniLMGolden {
  const url = new URL("../golden/minilm/golden.json", import.meta.url);
  return JSON.parse(Deno.readTextFileSync(url)) as MiniLMGolden;
}
