/** The loop of kernels that treat each element by itself: over rows, vectors, and what is left of a row. */

import {
  type Body,
  doWhile,
  type Expr,
  type FunctionScope,
  increment,
  type Local,
  setI32,
  type Statement,
  when,
} from "./assembler.ts";
import { i32, v128 } from "./instructions.ts";

/** Rows of float32 that the loop goes along. */
export interface Walk {
  /** Where the row begins; moves on by the stride after each. */
  readonly row: Local<"i32">;
  readonly stride: Local<"i32">;
  /** Where the loop is in the row. */
  readonly at: Local<"i32">;
}

/** How elements are reached: four of them, or one in lane 0, the other lanes being 0. */
export interface ElementAccess {
  readonly count: 4 | 1;
  load(at: Expr<"i32">): Expr<"v128">;
  store(at: Expr<"i32">, values: Expr<"v128">): Statement;
}

const VECTOR: ElementAccess = {
  count: 4,
  load: (at) => v128.load(at),
  store: (at, values) => v128.store(at, values),
};

const SINGLE: ElementAccess = {
  count: 1,
  load: (at) => v128.load32Zero(at),
  store: (at, values) => v128.store32Lane(at, values, 0),
};

/**
 * Visits all elements of `rowCount` rows, four at a time, then one by one what is left of a width
 * that is no multiple of 4. `rowCount` is at least 1, and counted down to 0.
 */
export function eachElement(
  scope: FunctionScope,
  { walks, rowCount, columnCount }: {
    readonly walks: readonly [Walk, ...Walk[]];
    readonly rowCount: Local<"i32">;
    readonly columnCount: Local<"i32">;
  },
  visit: (access: ElementAccess) => Body,
): Body {
  const [{ row, at }] = walks;
  const vectorEnd = scope.local("i32");
  const end = scope.local("i32");
  const visitUntil = (stop: Local<"i32">, access: ElementAccess): Statement =>
    when(i32.ne(at, stop), [
      doWhile(
        i32.ne(at, stop),
        visit(access),
        walks.map((walk) => increment(walk.at, 4 * access.count)),
      ),
    ]);
  return [
    doWhile(
      rowCount,
      walks.map((walk) => setI32(walk.at, walk.row)),
      setI32(vectorEnd, i32.add(row, i32.shl(i32.shrU(columnCount, 2), 4))),
      setI32(end, i32.add(row, i32.shl(columnCount, 2))),
      visitUntil(vectorEnd, VECTOR),
      visitUntil(end, SINGLE),
      walks.map((walk) => increment(walk.row, walk.stride)),
      increment(rowCount, -1),
    ),
  ];
}
