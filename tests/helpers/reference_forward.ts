/**
 * The decoders' forward pass as their papers have it, in double precision and one token after the
 * other: no graph, no cache, no blocks. It reads config.json by itself, in the spelling of
 * transformers 4, and shares nothing with the library.
 */

/** A checkpoint in memory. */
export interface ReferenceModel {
  /** config.json. */
  readonly config: Readonly<Record<string, unknown>>;
  /** Tensors by the names that the file has for them, row-major. */
  readonly tensors: ReadonlyMap<string, Float32Array>;
  /** The longest context that the model is loaded for; longrope chooses by it. */
  readonly contextLength: number;
}

/** What the layers add to the residual stream, and where norms stand. */
type Norms = "before" | "after" | "around";

const NORMS: Readonly<Record<string, Norms>> = { exaone4: "after", gemma3_text: "around" };

/**
 * Logits [vocabulary] of each position of `ids`. `onGap` is told how far the last expert that was
 * chosen is from the first one that was not: where that is next to nothing, another way of rounding
 * chooses another expert.
 */
export function referenceLogits(
  model: ReferenceModel,
  ids: readonly number[],
  onGap: (gap: number) => void = () => {},
): Float64Array[] {
  return new Forward(model, onGap).run(ids);
}

/** Hidden states [hiddenSize] behind the last norm: what logits are made of, and what is pooled. */
export function referenceHiddenStates(
  model: ReferenceModel,
  ids: readonly number[],
  onGap: (gap: number) => void = () => {},
): Float64Array[] {
  return new Forward(model, onGap).states(ids);
}

class Forward {
  readonly #model: ReferenceModel;
  readonly #type: string;
  readonly #hidden: number;
  readonly #heads: number;
  readonly #kvHeads: number;
  readonly #headDim: number;

  readonly #onGap: (gap: number) => void;

  constructor(model: ReferenceModel, onGap: (gap: number) => void) {
    this.#model = model;
    this.#onGap = onGap;
    this.#type = model.config["model_type"] as string;
    this.#hidden = this.#number("hidden_size");
    this.#heads = this.#number("num_attention_heads");
    this.#kvHeads = this.#number("num_key_value_heads", this.#heads);
    const headDim = this.#type === "qwen3" ? 128 : this.#hidden / this.#heads;
    this.#headDim = this.#number("head_dim", headDim);
  }

  run(ids: readonly number[]): Float64Array[] {
    const isTied = (this.#config("tie_word_embeddings") ?? this.#type === "gemma3_text") as boolean;
    const head = isTied
      ? this.#tensor("embed_tokens")
      : this.#model.tensors.get("lm_head.weight") as Float32Array;
    const cap = this.#number("final_logit_softcapping", 0);
    return this.states(ids).map((state) => {
      const logits = multiply(state, head);
      return cap === 0 ? logits : logits.map((logit) => cap * Math.tanh(logit / cap));
    });
  }

  states(ids: readonly number[]): Float64Array[] {
    const embedding = this.#tensor("embed_tokens");
    const scale = this.#type === "gemma3_text" ? Math.sqrt(this.#hidden) : 1;
    const stream = ids.map((id) =>
      Float64Array.from(
        embedding.subarray(id * this.#hidden, (id + 1) * this.#hidden),
        (value) => value * scale,
      )
    );
    const layerCount = this.#number("num_hidden_layers", this.#number("num_layers", 0));
    for (let layer = 0; layer < layerCount; layer++) this.#layer(stream, layer);
    return stream.map((row) => this.#norm(row, "norm"));
  }

  #layer(stream: Float64Array[], layer: number): void {
    const norms = NORMS[this.#type] ?? "before";
    const at = `layers.${layer}`;
    const normed = (rows: readonly Float64Array[], name: string) =>
      rows.map((row) => this.#norm(row, `${at}.${name}`));
    const add = (rows: readonly Float64Array[]) =>
      rows.forEach((row, i) => row.forEach((value, column) => stream[i]![column]! += value));

    const taken = norms === "after" ? stream : normed(stream, "input_layernorm");
    const attended = this.#attention(taken, layer);
    add(norms === "before" ? attended : normed(attended, "post_attention_layernorm"));

    const before = norms === "around" ? "pre_feedforward_layernorm" : "post_attention_layernorm";
    const mixed = (norms === "after" ? stream : normed(stream, before))
      .map((row) => this.#mix(row, `${at}.mlp`));
    add(norms === "before" ? mixed : normed(mixed, "post_feedforward_layernorm"));
  }

  #attention(rows: readonly Float64Array[], layer: number): Float64Array[] {
    const at = `layers.${layer}.self_attn`;
    const window = this.#window(layer);
    const project = (which: string, heads: number) =>
      rows.map((row, position) => {
        const all = this.#linear(row, `${at}.${which}_proj`);
        return Array.from({ length: heads }, (_, head) => {
          const start = head * this.#headDim;
          const values = all.slice(start, start + this.#headDim);
          if (which === "v") return values;
          const hasNorm = this.#has(`${at}.${which}_norm`);
          const vector = hasNorm ? this.#norm(values, `${at}.${which}_norm`) : values;
          return this.#rotate(vector, position, layer);
        });
      });
    const [q, k, v] = [
      project("q", this.#heads),
      project("k", this.#kvHeads),
      project("v", this.#kvHeads),
    ];
    const scalar = this.#type === "gemma3_text"
      ? this.#number("query_pre_attn_scalar", 256)
      : this.#headDim;
    return rows.map((_, position) => {
      const out = new Float64Array(this.#heads * this.#headDim);
      for (let head = 0; head < this.#heads; head++) {
        const kvHead = Math.floor(head / (this.#heads / this.#kvHeads));
        const first = window === 0 ? 0 : Math.max(0, position - window + 1);
        const scores: number[] = [];
        for (let key = first; key <= position; key++) {
          scores.push(dot(q[position]![head]!, k[key]![kvHead]!) / Math.sqrt(scalar));
        }
        // A sink takes its share, and gives nothing.
        const sinks = this.#model.tensors.get(`model.${at}.sinks`);
        if (sinks !== undefined) scores.push(sinks[head]!);
        softmax(scores).slice(0, position - first + 1).forEach((share, i) =>
          v[first + i]![kvHead]!.forEach((value, column) =>
            out[head * this.#headDim + column]! += share * value
          )
        );
      }
      return this.#linear(out, `${at}.o_proj`);
    });
  }

  /** The MLP of a layer, or its experts. */
  #mix(row: Float64Array, at: string): Float64Array {
    const router = [`${at}.gate`, `${at}.router`].find((name) => this.#has(name));
    if (router === undefined) return this.#mlp(row, at);
    const logits = [...this.#linear(row, router)];
    const isSigmoid = this.#type === "exaone_moe" || this.#type === "solar_open";
    const shares = isSigmoid ? logits.map((logit) => 1 / (1 + Math.exp(-logit))) : softmax(logits);
    const bias = this.#model.tensors.get(`model.${at}.gate.e_score_correction_bias`);
    const scores = (isSigmoid ? shares : logits).map((score, e) => score + (bias?.[e] ?? 0));
    const order = scores.map((_, e) => e).sort((a, b) => scores[b]! - scores[a]!);
    const count = this.#number("num_experts_per_tok");
    if (count < order.length) {
      this.#onGap(scores[order[count - 1]!]! - scores[order[count]!]!);
    }
    const chosen = order.slice(0, count);
    const normalizes = this.#config("norm_topk_prob") ?? this.#type !== "qwen3_moe";
    const whole = normalizes ? chosen.reduce((sum, e) => sum + shares[e]!, 0) : 1;
    const scale = this.#number("routed_scaling_factor", this.#type === "exaone_moe" ? 2.5 : 1);
    const out = this.#has(`${at}.shared_experts.gate_proj`)
      ? this.#mlp(row, `${at}.shared_experts`)
      : new Float64Array(row.length);
    for (const expert of chosen) {
      this.#expert(row, at, expert).forEach((value, i) =>
        out[i]! += scale * shares[expert]! / whole * value
      );
    }
    return out;
  }

  #expert(row: Float64Array, at: string, expert: number): Float64Array {
    if (this.#type !== "gpt_oss") return this.#mlp(row, `${at}.experts.${expert}`);
    const limit = this.#number("swiglu_limit", 7);
    const project = (x: Float64Array, which: string) => {
      const y = multiply(x, this.#tensor(`${at}.experts.${expert}.${which}`));
      const bias = this.#tensor(`${at}.experts.${which}`, "bias");
      return y.map((value, i) => value + bias[expert * y.length + i]!);
    };
    const up = project(row, "up_proj");
    const middle = project(row, "gate_proj").map((value, i) => {
      const gate = Math.min(value, limit);
      const clamped = Math.min(Math.max(up[i]!, -limit), limit);
      return (clamped + 1) * gate / (1 + Math.exp(-1.702 * gate));
    });
    return project(middle, "down_proj");
  }

  #mlp(row: Float64Array, at: string): Float64Array {
    const gate = this.#linear(row, `${at}.gate_proj`);
    const up = this.#linear(row, `${at}.up_proj`);
    const act = this.#type === "gemma3_text" ? geluTanh : silu;
    return this.#linear(gate.map((value, i) => act(value) * up[i]!), `${at}.down_proj`);
  }

  /** 0: the layer sees everything. */
  #window(layer: number): number {
    const window = this.#config("sliding_window") === null
      ? 0
      : this.#number("sliding_window", 4096);
    const listed = this.#config("layer_types") as string[] | undefined;
    switch (this.#type) {
      case "mistral":
        return window;
      case "qwen2":
      case "qwen3":
        if (this.#config("use_sliding_window") !== true) return 0;
        return (listed === undefined
            ? layer >= this.#number("max_window_layers", 28)
            : listed[layer] === "sliding_attention")
          ? window
          : 0;
      case "exaone4":
      case "exaone_moe":
      case "gpt_oss":
      case "gemma3_text": {
        if (window === 0) return 0;
        if (listed !== undefined) return listed[layer] === "sliding_attention" ? window : 0;
        const pattern = this.#config("sliding_window_pattern") ??
          (this.#type === "gpt_oss" ? 2 : this.#type === "gemma3_text" ? 6 : 4);
        const slides = typeof pattern === "string"
          ? pattern[layer % pattern.length] === "L"
          : (layer + 1) % (pattern as number) !== 0;
        return slides ? window : 0;
      }
      default:
        return 0;
    }
  }

  #rotate(vector: Float64Array, position: number, layer: number): Float64Array {
    const slides = this.#window(layer) > 0;
    // EXAONE 4 with windows: layers that see everything know of no positions.
    const hasWindows = this.#config("sliding_window") !== null;
    const isExaone = this.#type === "exaone4" || this.#type === "exaone_moe";
    if (isExaone && hasWindows && !slides) return vector;
    const local = this.#type === "gemma3_text" && slides;
    const theta = local
      ? this.#number("rope_local_base_freq", 10_000)
      : this.#number("rope_theta", this.#type === "gemma3_text" ? 1e6 : 10_000);
    const width = Math.trunc(vector.length * this.#number("partial_rotary_factor", 1));
    const { frequencies, magnitude } = this.#frequencies(theta, width, local);
    const out = vector.slice();
    for (let i = 0; i < width / 2; i++) {
      const angle = position * frequencies[i]!;
      const [cos, sin] = [Math.cos(angle) * magnitude, Math.sin(angle) * magnitude];
      const [a, b] = [vector[i]!, vector[i + width / 2]!];
      out[i] = a * cos - b * sin;
      out[i + width / 2] = b * cos + a * sin;
    }
    return out;
  }

  #frequencies(theta: number, width: number, isPlain: boolean) {
    const scaling = (isPlain ? undefined : this.#config("rope_scaling")) as
      | Record<string, unknown>
      | undefined;
    const maxPositions = this.#number("max_position_embeddings");
    const get = (key: string, fallback?: number) => (scaling?.[key] ?? fallback) as number;
    const factor = get("factor", 1);
    const original = this.#number(
      "original_max_position_embeddings",
      get("original_max_position_embeddings", maxPositions),
    );
    const inverse = (i: number, base = theta) => 1 / base ** (2 * i / width);
    const all = (of: (i: number) => number, magnitude = 1) => ({
      frequencies: Array.from({ length: width / 2 }, (_, i) => of(i)),
      magnitude,
    });
    switch (scaling?.["rope_type"] ?? scaling?.["type"] ?? "default") {
      case "linear":
        return all((i) => inverse(i) / factor);
      case "dynamic": {
        const length = factor * maxPositions;
        const base = theta *
          (factor * length / maxPositions - (factor - 1)) ** (width / (width - 2));
        return all((i) => inverse(i, base));
      }
      case "llama3":
        return all((i) => {
          const wavelength = 2 * Math.PI / inverse(i);
          const [low, high] = [get("low_freq_factor"), get("high_freq_factor")];
          if (wavelength < original / high) return inverse(i);
          if (wavelength > original / low) return inverse(i) / factor;
          const smooth = (original / wavelength - low) / (high - low);
          return (1 - smooth) * inverse(i) / factor + smooth * inverse(i);
        });
      case "yarn": {
        const turn = (n: number) =>
          width * Math.log(original / (n * 2 * Math.PI)) / (2 * Math.log(theta));
        const cuts = scaling?.["truncate"] !== false;
        const [fast, slow] = [turn(get("beta_fast", 32)), turn(get("beta_slow", 1))];
        const low = Math.max(cuts ? Math.floor(fast) : fast, 0);
        const high = Math.min(cuts ? Math.ceil(slow) : slow, width - 1);
        const magnitude = get("attention_factor", 0.1 * Math.log(factor) + 1);
        return all((i) => {
          const ramp = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)));
          return inverse(i) / factor * ramp + inverse(i) * (1 - ramp);
        }, magnitude);
      }
      case "longrope": {
        const isLong = this.#model.contextLength > original;
        const list = scaling?.[isLong ? "long_factor" : "short_factor"] as number[];
        const stretch = get("factor", maxPositions / original);
        const magnitude = get(
          "attention_factor",
          stretch > 1 ? Math.sqrt(1 + Math.log(stretch) / Math.log(original)) : 1,
        );
        return all((i) => inverse(i) / list[i]!, magnitude);
      }
      default:
        return all((i) => inverse(i));
    }
  }

  #linear(row: Float64Array, name: string): Float64Array {
    const out = multiply(row, this.#tensor(name));
    if (!this.#has(name, "bias")) return out;
    const bias = this.#tensor(name, "bias");
    return out.map((value, i) => value + bias[i]!);
  }

  #norm(row: Float64Array, name: string): Float64Array {
    const weight = this.#tensor(name);
    const epsilon = this.#number(
      this.#type === "exaone" ? "layer_norm_epsilon" : "rms_norm_eps",
      this.#type === "exaone4" ? 1e-5 : 1e-6,
    );
    const mean = row.reduce((sum, value) => sum + value * value, 0) / row.length;
    const offset = this.#type === "gemma3_text" ? 1 : 0;
    return row.map((value, i) => value / Math.sqrt(mean + epsilon) * (weight[i]! + offset));
  }

  #tensor(name: string, kind = "weight"): Float32Array {
    return this.#model.tensors.get(this.#stored(name, kind)) as Float32Array;
  }

  #has(name: string, kind = "weight"): boolean {
    return this.#model.tensors.has(this.#stored(name, kind));
  }

  #stored(name: string, kind: string): string {
    return storedName(this.#type, `model.${name}.${kind}`);
  }

  #config(key: string): unknown {
    return this.#model.config[key];
  }

  #number(key: string, fallback?: number): number {
    return (this.#config(key) ?? fallback) as number;
  }
}

/** What files of a family call a tensor that others call `name`. */
export function storedName(modelType: string, name: string): string {
  if (modelType !== "exaone") return name;
  return name
    .replace("model.embed_tokens", "transformer.wte")
    .replace("model.norm", "transformer.ln_f")
    .replace("model.layers", "transformer.h")
    .replace("input_layernorm", "ln_1")
    .replace("post_attention_layernorm", "ln_2")
    .replace("self_attn.o_proj", "self_attn.out_proj")
    .replace("self_attn", "attn.attention")
    .replace("gate_proj", "c_fc_0")
    .replace("up_proj", "c_fc_1")
    .replace("down_proj", "c_proj");
}

function multiply(row: Float64Array, weight: Float32Array): Float64Array {
  const out = new Float64Array(weight.length / row.length);
  for (let i = 0; i < out.length; i++) {
    let sum = 0;
    const start = i * row.length;
    for (let column = 0; column < row.length; column++) {
      sum += weight[start + column]! * row[column]!;
    }
    out[i] = sum;
  }
  return out;
}

function dot(a: Float64Array, b: Float64Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}

function softmax(scores: readonly number[]): number[] {
  const most = Math.max(...scores);
  const powers = scores.map((score) => Math.exp(score - most));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

function silu(x: number): number {
  return x / (1 + Math.exp(-x));
}

function geluTanh(x: number): number {
  return 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)));
}
