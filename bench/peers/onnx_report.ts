/** What `onnx.ts` prints, as JSON. */

/** How much faster our product is, for one shape. */
export interface OnnxRow {
  readonly shape: string;
  readonly rowCount: number;
  /** Over onnxruntime-web. */
  readonly web: number;
  /** Over onnxruntime-node. */
  readonly node: number;
}

/** All of it. */
export interface OnnxReport {
  readonly versions: Readonly<Record<string, string>>;
  readonly rows: readonly OnnxRow[];
}
