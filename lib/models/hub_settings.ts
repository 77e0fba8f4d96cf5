/** Where the hub is, where its cache is, and who asks: huggingface_hub's variables, read as it reads them. */

/** Reads one environment variable. */
export type Environment = (name: string) => string | undefined;

/** What the environment says about the hub. */
export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  /** undefined: nothing says where, not even a home folder. */
  readonly cache: string | undefined;
  readonly token: string | undefined;
  /** Only the cache may be used. */
  readonly isOffline: boolean;
}

/**
 * Reads the variables.
 *
 * @throws {RangeError} HF_ENDPOINT or the token cannot be used.
 */
export function readHubSettings(environment: Environment, endpoint: string): HubSettings {
  return {
    endpoint: readEndpoint(environment("HF_ENDPOINT") || endpoint),
    cache: cacheFolder(environment),
    token: readToken(environment),
    isOffline: /^(1|on|yes|true)$/i.test(
      environment("HF_HUB_OFFLINE") || environment("TRANSFORMERS_OFFLINE") || "",
    ),
  };
}

/** `~` and `~/…` → a path in the home folder, where one is known. */
export function expandHome(path: string, environment: Environment): string {
  if (path !== "~" && !/^~[\\/]/.test(path)) return path;
  const home = environment("HOME") || environment("USERPROFILE");
  return home ? home + path.slice(1) : path;
}

function readEndpoint(text: string): string {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.search !== "" || url.hash !== "") {
    throw new RangeError(`Cannot use HF_ENDPOINT "${text}": it must be an http or https address`);
  }
  return url.href.replace(/\/+$/, "");
}

function folderOf(variable: string, inner: string, environment: Environment): string | undefined {
  const value = environment(variable);
  return value ? expandHome(value, environment).replace(/(?<=.)[\\/]+$/, "") + inner : undefined;
}

/** Where everything of Hugging Face lies. */
function homeFolder(environment: Environment): string | undefined {
  return folderOf("HF_HOME", "", environment) ??
    folderOf("XDG_CACHE_HOME", "/huggingface", environment) ??
    folderOf("HOME", "/.cache/huggingface", environment) ??
    folderOf("USERPROFILE", "/.cache/huggingface", environment);
}

function cacheFolder(environment: Environment): string | undefined {
  const home = homeFolder(environment);
  return folderOf("HF_HUB_CACHE", "", environment) ??
    folderOf("HUGGINGFACE_HUB_CACHE", "", environment) ??
    (home === undefined ? undefined : `${home}/hub`);
}

/** The variable, else what `hf auth login` has left. */
function readToken(environment: Environment): string | undefined {
  const given = environment("HF_TOKEN") || environment("HUGGING_FACE_HUB_TOKEN");
  const home = homeFolder(environment);
  const file = folderOf("HF_TOKEN_PATH", "", environment) ??
    (home === undefined ? undefined : `${home}/token`);
  const token = (given || (file === undefined ? "" : readIfThere(file))).trim();
  if (/^[\x21-\x7e]*$/.test(token)) return token === "" ? undefined : token;
  const source = given ? "HF_TOKEN" : `"${file}"`;
  throw new RangeError(`Cannot use the token in ${source}: it holds characters that no token has`);
}

/** Asks first whether it may, as a token is never needed. */
function readIfThere(path: string): string {
  if (Deno.permissions.querySync({ name: "read", path }).state !== "granted") return "";
  try {
    return Deno.readTextFileSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      return "";
    }
    throw error;
  }
}
