/** How many labels a classifier's config names. */

import type { Fields } from "./fields.ts";
import { SIZE_RULES } from "./model_config.ts";

/** The names decide, as they do in the classes that read this file; else num_labels, else two. */
export function readLabelCount(fields: Fields): number {
  const names = fields.object("id2label");
  if (names === undefined) return fields.integer("num_labels", SIZE_RULES.labels, 2);
  let count = 0;
  while (count < SIZE_RULES.labels.max && names.value(String(count)) !== undefined) count++;
  if (count === 0) fields.fail("id2label", 'it must name the labels, from "0" on');
  return count;
}
