/** A status of the hub that is no success → an error that says what to do. */

import { DownloadError, ModelNotFoundError } from "../base/errors.ts";
import { TransientError } from "./hub_tries.ts";

/** What was asked for, and how. */
export interface HubQuestion {
  readonly id: string;
  readonly revision: string;
  readonly file?: string;
  readonly hasToken: boolean;
}

/** The repository is there, but has no such branch, tag or commit. */
export class RevisionNotFoundError extends ModelNotFoundError {}

/** Throws for every status but 200 and 206, and lets go of the body then. */
export async function checkStatus(response: Response, question: HubQuestion): Promise<void> {
  if (response.status === 200 || response.status === 206) return;
  await response.body?.cancel();
  throw errorOf(response, question);
}

function errorOf({ status, headers }: Response, question: HubQuestion): Error {
  const { id, revision, file, hasToken } = question;
  const code = headers.get("x-error-code");
  const at = `"${id}" at revision "${revision}"`;
  if (status === 408 || status === 429 || status >= 500) {
    const retryAfterSeconds = readRetryAfter(headers.get("retry-after"));
    const wait = retryAfterSeconds === undefined
      ? ""
      : ` and asks to wait ${Math.ceil(retryAfterSeconds)} s`;
    return new TransientError(`the hub answers ${status}${wait}`, { retryAfterSeconds });
  }
  if (code === "GatedRepo") {
    return new DownloadError(
      id,
      `Cannot download ${at}: it is gated; accept its terms on its page at the hub, and ` +
        (hasToken
          ? "give HF_TOKEN a token of the account that did"
          : "set HF_TOKEN to a token of your account"),
    );
  }
  if (code === "RevisionNotFound") {
    return new RevisionNotFoundError(
      `Cannot find revision "${revision}" of "${id}" on the hub: ` +
        "name a branch, a tag or a commit that it has",
    );
  }
  if (file !== undefined && status === 404) {
    return new DownloadError(
      id,
      `Cannot download "${file}" of ${at}: the hub lists it but lacks it`,
    );
  }
  // The hub tells nobody who may not read a repository whether there is one.
  if (code === "RepoNotFound" || status === 404 || (status === 401 && !hasToken)) {
    return new ModelNotFoundError(
      `Cannot find ${at} on the hub: check its name; if it is private, ` +
        (hasToken ? "give HF_TOKEN a token that may read it" : "set HF_TOKEN"),
    );
  }
  if (status === 401 || status === 403) {
    const token = hasToken ? "give HF_TOKEN a valid token that may read it" : "set HF_TOKEN";
    return new DownloadError(id, `Cannot download ${at}: the hub answers ${status}; ${token}`);
  }
  return new DownloadError(id, `Cannot download ${at}: the hub answers ${status}`);
}

/** Seconds, or a date. */
function readRetryAfter(text: string | null): number | undefined {
  if (text === null) return undefined;
  const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
  return Number.isFinite(seconds) ? Math.max(0, seconds) : undefined;
}
