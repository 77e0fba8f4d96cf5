/**
 * Which experts each token goes to, and what their answers count: the definition that both backends
 * follow, and run. Its result is a choice, so a last bit that differs between them would not stay a
 * last bit; and beside the experts' products its time does not show.
 *
 * ```text
 * logits [tokens, experts] ─▶ the best few of each token ─▶ their weights
 *                                      │
 *                                      └─▶ choices in the order of experts, tokens ascending
 * ```
 *
 * A choice is one expert of one token. Experts multiply runs of rows, one row a choice, so choices
 * are put in the order of their experts; the rank of a choice is its place among those of its token,
 * best first. Equal scores go to the lower index, NaN counts as the lowest of all.
 */

/** How logits become choices and weights; sums are over all experts, or over the chosen ones. */
export type Router =
  /** The largest logits; a weight is e^logit / Σ e^logit, normalised over the chosen on demand. */
  | { readonly kind: "softmax"; readonly normalizes: boolean }
  /**
   * s = 1 / (1 + e^−logit); the largest s + bias. A weight is `scale` · s, or on demand
   * `scale` · s / (Σ s of the chosen + 1e-20).
   */
  | { readonly kind: "sigmoid"; readonly normalizes: boolean; readonly scale: number };

/** How many experts there are, and how many of them a token goes to. */
export interface RoutingShape {
  /** Experts of a layer. */
  readonly expertCount: number;
  /** Experts that a token goes to. */
  readonly choiceCount: number;
}

/** Where the parts of a routing of `tokenCount` tokens lie, in 32-bit words from its start. */
export interface RoutingParts {
  /** int32 [experts + 1]: the first row of each expert; the rows of one end where the next begins. */
  readonly starts: number;
  /** float32 [tokens, choices]: by rank. */
  readonly weights: number;
  /** int32 [tokens, choices]: the row of each choice, by rank. */
  readonly rows: number;
  /** int32 [tokens · choices]: the token of each row. */
  readonly tokens: number;
}

/** Words for each token that suffice for a routing, of however many tokens. */
export function routingWords({ expertCount, choiceCount }: RoutingShape): number {
  return weightsAt(expertCount) + 3 * choiceCount;
}

/** The parts of a routing. */
export function routingParts(
  { expertCount, choiceCount }: RoutingShape,
  tokenCount: number,
): RoutingParts {
  const weights = weightsAt(expertCount);
  const size = tokenCount * choiceCount;
  return { starts: 0, weights, rows: weights + size, tokens: weights + 2 * size };
}

/** After the starts, in whole vectors. */
function weightsAt(expertCount: number): number {
  return Math.ceil((expertCount + 1) / 4) * 4;
}

/** What routing takes. Addresses are byte offsets. */
export interface RouteArgs extends RoutingShape {
  readonly logits: number;
  /** In floats. */
  readonly logitsStride: number;
  readonly rowCount: number;
  readonly router: Router;
  /** Float32 [experts], which takes part in the choice only; null: none. */
  readonly bias: number | null;
  readonly out: number;
}

/** Routes `rowCount` tokens. */
export function route(buffer: ArrayBufferLike, args: RouteArgs): void {
  const { expertCount, choiceCount, rowCount, router } = args;
  const parts = routingParts(args, rowCount);
  const at = (word: number) => args.out + 4 * word;
  const size = rowCount * choiceCount;
  const starts = new Int32Array(buffer, at(parts.starts), expertCount + 1).fill(0);
  const weights = new Float32Array(buffer, at(parts.weights), size);
  const rows = new Int32Array(buffer, at(parts.rows), size);
  const tokens = new Int32Array(buffer, at(parts.tokens), size);
  const bias = args.bias === null ? null : new Float32Array(buffer, args.bias, expertCount);
  const scores = new Float32Array(expertCount);
  const chosen = new Int32Array(size);
  for (let row = 0; row < rowCount; row++) {
    const logits = new Float32Array(
      buffer,
      args.logits + 4 * row * args.logitsStride,
      expertCount,
    );
    const own = chosen.subarray(row * choiceCount, (row + 1) * choiceCount);
    const ownWeights = weights.subarray(row * choiceCount, (row + 1) * choiceCount);
    score(scores, logits, router, bias);
    chooseLargest(own, scores);
    if (router.kind === "softmax") weighBySoftmax(ownWeights, logits, own, router.normalizes);
    else weighBySigmoid(ownWeights, logits, own, router);
  }
  for (const expert of chosen) starts[expert + 1]!++;
  for (let expert = 0; expert < expertCount; expert++) starts[expert + 1]! += starts[expert]!;
  const next = starts.slice(0, expertCount);
  for (let choice = 0; choice < size; choice++) {
    const row = next[chosen[choice]!]!++;
    rows[choice] = row;
    tokens[row] = Math.floor(choice / choiceCount);
  }
}

function sigmoid(logit: number): number {
  return Math.fround(1 / (1 + Math.exp(-logit)));
}

/** What choices are made by. */
function score(
  scores: Float32Array,
  logits: Float32Array,
  { kind }: Router,
  bias: Float32Array | null,
): void {
  for (let expert = 0; expert < scores.length; expert++) {
    const value = kind === "sigmoid" ? sigmoid(logits[expert]!) : logits[expert]!;
    const total = bias === null ? value : value + bias[expert]!;
    scores[expert] = Number.isNaN(total) ? -Infinity : total;
  }
}

/** The indices of the largest scores, best first. */
function chooseLargest(chosen: Int32Array, scores: Float32Array): void {
  for (let rank = 0; rank < chosen.length; rank++) {
    let best = -1;
    for (let expert = 0; expert < scores.length; expert++) {
      if (best >= 0 && !(scores[expert]! > scores[best]!)) continue;
      if (!chosen.subarray(0, rank).includes(expert)) best = expert;
    }
    chosen[rank] = best;
  }
}

/** In float64, rounded once. */
function weighBySoftmax(
  weights: Float32Array,
  logits: Float32Array,
  chosen: Int32Array,
  normalizes: boolean,
): void {
  let max = -Infinity;
  for (const logit of logits) max = Math.max(max, logit); // NaN stays, and makes NaN of the weights
  let sum = 0;
  if (normalizes) { for (const expert of chosen) sum += Math.exp(logits[expert]! - max); }
  else for (const logit of logits) sum += Math.exp(logit - max);
  chosen.forEach((expert, rank) => weights[rank] = Math.exp(logits[expert]! - max) / sum);
}

function weighBySigmoid(
  weights: Float32Array,
  logits: Float32Array,
  chosen: Int32Array,
  { normalizes, scale }: { readonly normalizes: boolean; readonly scale: number },
): void {
  let sum = 0;
  for (const expert of chosen) sum += sigmoid(logits[expert]!);
  const factor = normalizes ? scale / (sum + 1e-20) : scale;
  chosen.forEach((expert, rank) => weights[rank] = sigmoid(logits[expert]!) * factor);
}
