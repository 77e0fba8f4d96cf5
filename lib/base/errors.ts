/** The conditions a caller may want to catch. Plain mistakes of shape or type use the built-in classes. */

/** A parameter whose value cannot be used. `parameter` is the camelCase name the SDK knows it by. */
export class InvalidParameterError extends RangeError {
  /** The class, as errors show it. */
  override name = "InvalidParameterError";
  /** The parameter, as the SDK spells it: `topP`, `maxTokens`. */
  readonly parameter: string;
  /** What was given. */
  readonly value: unknown;

  /** Makes the error. */
  constructor(parameter: string, value: unknown, message: string) {
    super(message);
    this.parameter = parameter;
    this.value = value;
  }
}

/** The prompt, or prompt and output together, do not fit the model's context or the KV pool. */
export class ContextLengthError extends RangeError {
  /** The class, as errors show it. */
  override name = "ContextLengthError";
  /** Tokens asked for: the prompt, plus the output where that was fixed. */
  readonly tokenCount: number;
  /** Tokens that fit. */
  readonly tokenLimit: number;
  /** How many of the tokens asked for are the output's. Default 0: the prompt alone is too long. */
  readonly outputTokenCount: number;

  /** Makes the error. */
  constructor(tokenCount: number, tokenLimit: number, message: string, outputTokenCount = 0) {
    super(message);
    this.tokenCount = tokenCount;
    this.tokenLimit = tokenLimit;
    this.outputTokenCount = outputTokenCount;
  }
}

/** A checkpoint, tokenizer or template file is missing, malformed or contradicts its config. */
export class CheckpointError extends Error {
  /** The class, as errors show it. */
  override name = "CheckpointError";
  /** The file at fault, as it was named to the library. */
  readonly file: string;

  /** Makes the error. */
  constructor(file: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.file = file;
  }
}

/** No model was found under the given name: no such file or folder, and none on the hub or in its cache. */
export class ModelNotFoundError extends Error {
  /** The class, as errors show it. */
  override name = "ModelNotFoundError";
}

/** A model on the hub could not be had: no connection, no access, or an answer that cannot be right. */
export class DownloadError extends Error {
  /** The class, as errors show it. */
  override name = "DownloadError";
  /** The model, as it was named to the library. */
  readonly model: string;

  /** Makes the error. */
  constructor(model: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.model = model;
  }
}

/** A chat template refused the conversation, ran too long or wrote too much. */
export class ChatTemplateError extends Error {
  /** The class, as errors show it. */
  override name = "ChatTemplateError";
  /** What to change, where the call itself brought it: the template, or a variable of it. */
  readonly parameter: "chatTemplate" | "chatTemplateKwargs" | undefined;

  /** Makes the error. */
  constructor(
    message: string,
    options: ErrorOptions & { parameter?: "chatTemplate" | "chatTemplateKwargs" } = {},
  ) {
    super(message, options);
    this.parameter = options.parameter;
  }
}

/** The model is not for what was asked of it: a generative model has no embeddings, an encoder writes no text. */
export class UnsupportedTaskError extends TypeError {
  /** The class, as errors show it. */
  override name = "UnsupportedTaskError";
  /** What was asked for: `generate`, `embed`, `score` … */
  readonly task: string;

  /** Makes the error. */
  constructor(task: string, message: string) {
    super(message);
    this.task = task;
  }
}

/** The waiting queue is full; try again after `retryAfterSeconds`. */
export class QueueFullError extends Error {
  /** The class, as errors show it. */
  override name = "QueueFullError";
  /** When to try again. */
  readonly retryAfterSeconds: number;

  /** Makes the error. */
  constructor(waitingCount: number, retryAfterSeconds: number) {
    super(
      `Cannot queue the request: ${waitingCount} requests are waiting already, and more than ` +
        "maxWaitingRequests may not",
    );
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

/** The device could not hold what was asked of it. */
export class DeviceMemoryError extends RangeError {
  /** The class, as errors show it. */
  override name = "DeviceMemoryError";
}

/** A processing element failed or stopped answering; the step it ran is lost. */
export class DeviceError extends Error {
  /** The class, as errors show it. */
  override name = "DeviceError";
}

/** The engine computed logits or hidden states that are not numbers for this request. */
export class InvalidLogitsError extends Error {
  /** The class, as errors show it. */
  override name = "InvalidLogitsError";
}

/** The `LLM` was closed. */
export class ClosedError extends Error {
  /** The class, as errors show it. */
  override name = "ClosedError";
}
