import { assert, assertEquals } from "@std/assert";
import { BlockPool } from "../../lib/engine/block_pool.ts";
import { PrefixCache, type PrefixNode } from "../../lib/engine/prefix_cache.ts";
import { seededRandom } from "../helpers/scripted_runner.ts";

const BLOCK_SIZE = 4;
const BLOCK_COUNT = 24;

/** Salts look like ids and separators, and still are no ids. */
const SALTS = [undefined, "0", "0,1,0,1"];

/** A user of the cache: the tokens and the salt it has, the cached path, and blocks of its own. */
interface User {
  readonly tokenIds: number[];
  readonly salt: string | undefined;
  readonly path: PrefixNode[];
  readonly own: number[];
}

Deno.test("PrefixCache keeps counts, order and contents through random use", () => {
  for (const seed of [11, 12, 13, 14]) fuzz(seed, 8000);
});

function fuzz(seed: number, roundCount: number): void {
  const random = seededRandom(seed);
  const int = (count: number) => Math.floor(random() * count);
  const pool = new BlockPool(BLOCK_COUNT);
  const cache = new PrefixCache(pool, BLOCK_SIZE);
  const users: User[] = [];
  /** What each block was last filled with: the salt and the tokens of the whole path to it. */
  const contents = new Map<number, string>();
  const seen = { hits: 0, evictions: 0, duplicates: 0 };
  const spell = ({ tokenIds, salt }: Pick<User, "tokenIds" | "salt">, blockIndex: number) =>
    `${salt}: ${tokenIds.slice(0, (blockIndex + 1) * BLOCK_SIZE).join(" ")}`;

  const enter = () => {
    const tokenIds = Array.from({ length: BLOCK_SIZE * (1 + int(5)) }, () => int(2));
    const salt = SALTS[int(SALTS.length)];
    const path = cache.match(tokenIds, int(6), salt);
    cache.acquire(path);
    seen.hits += path.length;
    path.forEach((node, index) =>
      assertEquals(contents.get(node.blockId), spell({ tokenIds, salt }, index), `seed ${seed}`)
    );
    users.push({ tokenIds, salt, path, own: [] });
  };
  const grow = (user: User) => {
    const blockIndex = user.path.length + user.own.length;
    if (blockIndex * BLOCK_SIZE >= user.tokenIds.length) return;
    if (pool.freeCount === 0) {
      if (cache.idleCount === 0) return;
      cache.evict();
      seen.evictions++;
    }
    const blockId = pool.allocate();
    contents.set(blockId, spell(user, blockIndex));
    user.own.push(blockId);
  };
  const commit = (user: User) => {
    const blockId = user.own.shift();
    if (blockId === undefined) return;
    const node = cache.insert(user.path.at(-1), user.tokenIds, {
      blockIndex: user.path.length,
      blockId,
      salt: user.salt,
    });
    if (node.blockId !== blockId) seen.duplicates++;
    user.path.push(node);
  };
  const leave = (user: User) => {
    users.splice(users.indexOf(user), 1);
    for (const blockId of user.own) pool.release(blockId);
    cache.release(user.path, { forget: random() < 0.1 });
  };

  for (let round = 0; round < roundCount; round++) {
    const user = users[int(users.length)];
    const what = random();
    if (user === undefined || (what < 0.15 && users.length < 8)) enter();
    else if (what < 0.55) grow(user);
    else if (what < 0.9) commit(user);
    else leave(user);
    check(`seed ${seed}, round ${round}`);
  }
  assert(seen.hits > 50 && seen.evictions > 100 && seen.duplicates > 10, JSON.stringify(seen));
  for (const user of [...users]) leave(user);
  while (cache.idleCount > 0) cache.evict();
  assertEquals([pool.freeCount, cache.nodeCount], [BLOCK_COUNT, 0], `seed ${seed}`);

  function check(where: string): void {
    const counts = new Int32Array(BLOCK_COUNT);
    for (const { path, own } of users) {
      for (const node of path) counts[node.blockId]!++;
      for (const blockId of own) {
        counts[blockId]!++;
        assertEquals(pool.referenceCount(blockId), 1, `${where}: a private block is shared`);
      }
    }
    // Whatever is in a path may not have been given to somebody else meanwhile.
    for (const user of users) {
      user.path.forEach((node, index) =>
        assertEquals(contents.get(node.blockId), spell(user, index), where)
      );
    }
    let referenced = 0;
    for (let id = 0; id < BLOCK_COUNT; id++) {
      const extra = pool.referenceCount(id) - counts[id]!;
      assert(
        extra === 0 || extra === 1,
        `${where}: block ${id} has ${extra} unexplained references`,
      );
      if (pool.referenceCount(id) > 0) referenced++;
    }
    assertEquals(pool.freeCount, BLOCK_COUNT - referenced, where);
    const inUse = new Set(users.flatMap(({ path }) => path.map((node) => node.blockId)));
    assertEquals(cache.idleCount, cache.nodeCount - inUse.size, `${where}: idle nodes`);
  }
}

Deno.test("PrefixCache gives up what was used least recently, and the end of a path first", () => {
  const pool = new BlockPool(8);
  const cache = new PrefixCache(pool, 1);
  const store = (tokenIds: number[]) => {
    const path: PrefixNode[] = [];
    tokenIds.forEach((_, blockIndex) =>
      path.push(cache.insert(path.at(-1), tokenIds, { blockIndex, blockId: pool.allocate() }))
    );
    return path;
  };
  cache.release(store([1, 2, 3]));
  cache.release(store([7, 8]));
  const again = cache.match([1, 2], 2);
  cache.acquire(again);
  cache.release(again);
  const left: number[][] = [];
  while (cache.idleCount > 0) {
    cache.evict();
    left.push([cache.match([1, 2, 3], 3).length, cache.match([7, 8], 2).length]);
  }
  assertEquals(left, [[2, 2], [2, 1], [2, 0], [1, 0], [0, 0]]);
});

Deno.test("PrefixCache keeps one block of two with the same tokens", () => {
  const pool = new BlockPool(4);
  const cache = new PrefixCache(pool, 2);
  const first = cache.insert(undefined, [5, 6], { blockIndex: 0, blockId: pool.allocate() });
  const second = cache.insert(undefined, [5, 6], { blockIndex: 0, blockId: pool.allocate() });
  assertEquals(second, first);
  assertEquals([pool.freeCount, pool.referenceCount(first.blockId)], [3, 3]);
});

Deno.test("PrefixCache finds blocks only under the salt they were stored with", () => {
  const pool = new BlockPool(8);
  const cache = new PrefixCache(pool, 2);
  const tokenIds = [5, 6, 7, 8];
  const store = (salt?: string) => {
    const path: PrefixNode[] = [];
    for (const blockIndex of [0, 1]) {
      const blockId = pool.allocate();
      path.push(cache.insert(path.at(-1), tokenIds, { blockIndex, blockId, salt }));
    }
    return path;
  };
  const found = (salt?: string) => cache.match(tokenIds, 2, salt).map(({ blockId }) => blockId);
  const paths = [store(), store("a")];
  assertEquals([found(), found("a"), found("b"), found(":a")], [[0, 1], [2, 3], [], []]);
  for (const path of paths) cache.release(path);
  while (cache.idleCount > 0) cache.evict();
  // Neither blocks nor salts are left.
  assertEquals([cache.nodeCount, found("a"), pool.freeCount], [0, [], 8]);
});
