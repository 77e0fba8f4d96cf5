/** What the two kinds of checkpoint are taken apart into before `checkpoint.ts` puts one face on them. */

import type { ModelConfig } from "./model_config.ts";
import type { StoredTensor } from "./expected_tensors.ts";
import type { ByteSource } from "./formats/byte_source.ts";
import type { GenerationDefaults } from "./generation_config.ts";
import type { PoolingFiles } from "./pooling_files.ts";
import type { TextFiles } from "./text_files.ts";

/** A tensor, where its bytes are, and in which order its rows lie. */
export interface PartTensor extends StoredTensor {
  /**
   * 0: rows lie as Hugging Face has them. Else the rows come in heads of this size, and each head's
   * row half · headDim/2 + i lies at 2i + half: the pairs that rotate together are neighbours.
   */
  readonly pairedHeadDim: number;
}

/** A checkpoint, checked and open. */
export interface CheckpointParts {
  readonly config: ModelConfig;
  readonly generation: GenerationDefaults;
  readonly tensors: ReadonlyMap<string, PartTensor>;
  readonly text: TextFiles;
  readonly pooling: PoolingFiles;
  /** The opened files. */
  readonly sources: readonly ByteSource[];
}
