/** Structural equality as `@std/assert` defines it. */

/**
 * Are both the same value, or objects of one class with equal contents? Zeros of either sign are
 * equal, and so are two NaNs; a property that is `undefined` differs from one that is missing.
 */
export function equal(a: unknown, b: unknown): boolean {
  return compare(a, b, new Map());
}

/** `seen` holds the pairs whose comparison has begun: a pair that is met again closes a circle. */
function compare(a: unknown, b: unknown, seen: Map<object, object>): boolean {
  if (a === b || Number.isNaN(a) && Number.isNaN(b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (!haveSameClass(a, b)) return false;
  if (a instanceof Date) return Object.is(a.getTime(), (b as Date).getTime());
  if (a instanceof RegExp || a instanceof URL) return String(a) === String(b);
  if (a instanceof WeakMap || a instanceof WeakSet) {
    throw new TypeError("Cannot compare the contents of a WeakMap or WeakSet");
  }
  if (seen.get(a) === b) return true;
  seen.set(a, b);
  if (a instanceof ArrayBuffer || a instanceof SharedArrayBuffer) {
    return compare(new Uint8Array(a), new Uint8Array(b as ArrayBuffer), seen);
  }
  if (a instanceof Error && a.message !== (b as Error).message) return false;
  if (a instanceof Map) return compareMaps(a, b as Map<unknown, unknown>, seen);
  if (a instanceof Set) return compareSets(a, b as Set<unknown>, seen);
  return compareProperties(a as Properties, b as Properties, seen);
}

type Properties = Record<PropertyKey, unknown>;

/** An object without a prototype passes for a plain one. */
function haveSameClass(a: object, b: object): boolean {
  return a.constructor === b.constructor ||
    a.constructor === Object && !b.constructor ||
    !a.constructor && b.constructor === Object;
}

function compareMaps(
  a: Map<unknown, unknown>,
  b: Map<unknown, unknown>,
  seen: Map<object, object>,
): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) {
    if (b.has(key) && compare(value, b.get(key), seen)) continue;
    // Keys may be objects that are equal but not the same.
    const isThere = [...b].some(([other, otherValue]) =>
      compare(key, other, new Map(seen)) && compare(value, otherValue, new Map(seen))
    );
    if (!isThere) return false;
  }
  return true;
}

function compareSets(a: Set<unknown>, b: Set<unknown>, seen: Map<object, object>): boolean {
  if (a.size !== b.size) return false;
  for (const item of a) {
    if (!b.has(item) && ![...b].some((other) => compare(item, other, new Map(seen)))) return false;
  }
  return true;
}

function compareProperties(a: Properties, b: Properties, seen: Map<object, object>): boolean {
  const keys = ownKeys(a);
  if (keys.length !== ownKeys(b).length) return false;
  return keys.every((key) => Object.hasOwn(b, key) && compare(a[key], b[key], seen));
}

function ownKeys(object: object): PropertyKey[] {
  return Reflect.ownKeys(object).filter((key) =>
    Object.prototype.propertyIsEnumerable.call(object, key)
  );
}
