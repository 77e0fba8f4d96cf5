/** Memory that one draw after another works in: allocating it takes as long as reading a row. */

/** Bins of the histograms over logits. */
export const BIN_COUNT = 4096;

/** What is in it means nothing between two draws; whoever chooses tokens keeps one. */
export class SamplerScratch {
  /** Candidates: ids, ascending, … */
  ids: Int32Array = new Int32Array(0);
  /** … their logits, … */
  logits: Float32Array = new Float32Array(0);
  /** … and their weights. */
  weights: Float64Array = new Float64Array(0);
  /** By chunk of the row: what its weights are relative to, their sum, … */
  chunkMaxima: Float64Array = new Float64Array(0);
  chunkSums: Float64Array = new Float64Array(0);
  /** … and the sum relative to the largest logit of the row. */
  chunkMasses: Float64Array = new Float64Array(0);
  #bins: Float64Array | undefined;
  #row: Float32Array = new Float32Array(0);

  /** The bins of a histogram: most draws need none. */
  get bins(): Float64Array {
    return this.#bins ??= new Float64Array(BIN_COUNT);
  }

  /** Room for a row that processors may change. */
  rowOf(length: number): Float32Array {
    if (this.#row.length !== length) this.#row = new Float32Array(length);
    return this.#row;
  }

  /** Makes room for all tokens of a row as candidates. */
  reserveCandidates(count: number): void {
    if (this.ids.length >= count) return;
    this.ids = new Int32Array(count);
    this.logits = new Float32Array(count);
    this.weights = new Float64Array(count);
  }

  reserveChunks(count: number): void {
    if (this.chunkMaxima.length >= count) return;
    this.chunkMaxima = new Float64Array(count);
    this.chunkSums = new Float64Array(count);
    this.chunkMasses = new Float64Array(count);
  }
}
