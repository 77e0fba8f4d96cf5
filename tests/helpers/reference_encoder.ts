/**
 * The forward pass of BERT and RoBERTa as their papers have it, in double precision. It reads
 * config.json by itself and shares nothing with the library.
 */

/** A checkpoint in memory. */
export interface ReferenceEncoder {
  /** config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Tensors by name, row-major. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
}

/** The hidden state of each token of `ids`, whose segments are `types`. */
export function referenceStates(
  { config, tensors }: ReferenceEncoder,
  ids: readonly number[],
  types: readonly number[],
): Float64Array[] {
  const width = config["hidden_size"] as number;
  const epsilon = config["layer_norm_eps"] as number;
  const headCount = config["num_attention_heads"] as number;
  const headDim = width / headCount;
  const isBert = config["model_type"] === "bert";
  const firstPosition = isBert ? 0 : (config["pad_token_id"] as number) + 1;
  const tensor = (name: string) => tensors.get(name) as Float32Array;

  const linear = (x: Float64Array, name: string) => {
    const [weight, bias] = [tensor(`${name}.weight`), tensor(`${name}.bias`)];
    return Float64Array.from(bias, (start, row) => {
      let sum = start;
      for (let i = 0; i < x.length; i++) sum += weight[row * x.length + i]! * x[i]!;
      return sum;
    });
  };
  const norm = (x: Float64Array, name: string) => {
    const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
    const [weight, bias] = [tensor(`${name}.weight`), tensor(`${name}.bias`)];
    return x.map((value, i) =>
      (value - mean) / Math.sqrt(variance + epsilon) * weight[i]! + bias[i]!
    );
  };
  const row = (which: string, index: number) =>
    tensor(`embeddings.${which}_embeddings.weight`).subarray(index * width, (index + 1) * width);

  let states = ids.map((id, position) => {
    const [word, type] = [row("word", id), row("token_type", types[position]!)];
    const place = row("position", firstPosition + position);
    const sum = Float64Array.from({ length: width }, (_, i) => word[i]! + type[i]! + place[i]!);
    return norm(sum, "embeddings.LayerNorm");
  });
  for (let layer = 0; layer < (config["num_hidden_layers"] as number); layer++) {
    const at = `encoder.layer.${layer}`;
    const [q, k, v] = ["query", "key", "value"].map((which) =>
      states.map((state) => linear(state, `${at}.attention.self.${which}`))
    ) as [Float64Array[], Float64Array[], Float64Array[]];
    states = states.map((state, position) => {
      const attended = new Float64Array(width);
      for (let start = 0; start < width; start += headDim) {
        const scores = k.map((key) => {
          let sum = 0;
          for (let i = start; i < start + headDim; i++) sum += q[position]![i]! * key[i]!;
          return sum / Math.sqrt(headDim);
        });
        const powers = scores.map((score) => Math.exp(score - Math.max(...scores)));
        const total = powers.reduce((sum, power) => sum + power, 0);
        for (let i = start; i < start + headDim; i++) {
          attended[i] = powers.reduce((sum, power, key) => sum + power / total * v[key]![i]!, 0);
        }
      }
      const out = linear(attended, `${at}.attention.output.dense`);
      const middle = norm(
        out.map((value, i) => value + state[i]!),
        `${at}.attention.output.LayerNorm`,
      );
      const inner = linear(middle, `${at}.intermediate.dense`).map((x) =>
        x / 2 * (1 + erf(x / Math.SQRT2))
      );
      const mixed = linear(inner, `${at}.output.dense`);
      return norm(mixed.map((value, i) => value + middle[i]!), `${at}.output.LayerNorm`);
    });
  }
  return states;
}

/** 2/√π · ∫ e^(−t²) from 0 to x, by a series. */
function erf(x: number): number {
  if (Math.abs(x) > 6) return Math.sign(x);
  // Σ 2ⁿ x^(2n+1) / (1 · 3 · … · (2n+1)), times 2/√π e^(−x²): all terms have one sign.
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-18 * Math.abs(sum); n++) {
    term *= 2 * x * x / (2 * n + 1);
    sum += term;
  }
  return 2 / Math.sqrt(Math.PI) * Math.exp(-x * x) * sum;
}
