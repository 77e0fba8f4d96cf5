/** A self-signed certificate for this machine, made anew: no private key lies in the repository. */

/** Both as PEM. */
export interface KeyPair {
  readonly cert: string;
  readonly key: string;
}

const VALID_MS = 86_400_000;

/** Makes a key and a certificate of it for `localhost` and 127.0.0.1, valid for a day (RFC 5280). */
export async function selfSigned(): Promise<KeyPair> {
  const algorithm = { name: "ECDSA", namedCurve: "P-256" };
  const { privateKey, publicKey } = await crypto.subtle.generateKey(algorithm, true, [
    "sign",
    "verify",
  ]);
  const now = Date.now();
  const signatureKind = sequence(objectId(1, 2, 840, 10045, 4, 3, 2)); // ecdsa-with-SHA256
  const name = sequence(set(sequence(objectId(2, 5, 4, 3), der(0x0c, text("localhost")))));
  const body = sequence(
    der(0xa0, der(0x02, [2])), // version 3
    der(0x02, [1, ...crypto.getRandomValues(new Uint8Array(8))]),
    signatureKind,
    name,
    sequence(time(now - VALID_MS), time(now + VALID_MS)),
    name,
    new Uint8Array(await crypto.subtle.exportKey("spki", publicKey)),
    der(
      0xa3,
      sequence(sequence(
        objectId(2, 5, 29, 17),
        der(
          0x04,
          sequence( // its other names
            der(0x82, text("localhost")),
            der(0x87, [127, 0, 0, 1]),
          ),
        ),
      )),
    ),
  );
  const raw = await crypto.subtle.sign({ name: "ECDSA", hash: "SHA-256" }, privateKey, body);
  const numbers = new Uint8Array(raw);
  const signature = sequence(integer(numbers.slice(0, 32)), integer(numbers.slice(32)));
  return {
    cert: pem("CERTIFICATE", sequence(body, signatureKind, der(0x03, [0, ...signature]))),
    key: pem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", privateKey))),
  };
}

type Bytes = Uint8Array<ArrayBuffer>;

function der(tag: number, content: Iterable<number>): Bytes {
  const bytes = [...content];
  const { length } = bytes;
  const size = length < 0x80
    ? [length]
    : length < 0x100
    ? [0x81, length]
    : [0x82, length >> 8, length & 0xff];
  return new Uint8Array([tag, ...size, ...bytes]);
}

function sequence(...parts: readonly Bytes[]): Bytes {
  return der(0x30, parts.flatMap((part) => [...part]));
}

function set(part: Bytes): Bytes {
  return der(0x31, part);
}

/** An unsigned number; a zero in front keeps a large one from being read as negative. */
function integer(bytes: Bytes): Bytes {
  const digits = [...bytes];
  while (digits.length > 1 && digits[0] === 0) digits.shift();
  return der(0x02, (digits[0] as number) >= 0x80 ? [0, ...digits] : digits);
}

function objectId(first: number, second: number, ...rest: readonly number[]): Bytes {
  const base128 = (value: number): number[] =>
    value < 0x80
      ? [value]
      : [...base128(Math.floor(value / 0x80)).map((byte) => byte | 0x80), value % 0x80];
  return der(0x06, [first * 40 + second, ...rest.flatMap(base128)]);
}

function time(ms: number): Bytes {
  return der(0x18, text(new Date(ms).toISOString().replaceAll(/[-:T]|\.\d+/g, "")));
}

function text(value: string): Bytes {
  return new TextEncoder().encode(value);
}

function pem(label: string, bytes: Bytes): string {
  const lines = bytes.toBase64().match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ""].join("\n");
}
