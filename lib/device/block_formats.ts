/** How weights lie in HBM: panels of eight output columns, and the block formats inside them. */

/** The formats a weight panel can have. */
export type WeightFormat = "f32" | "bf16" | "f16" | "q8_0" | "q4_0" | "q4_1";
