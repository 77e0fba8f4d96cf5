/** docs/flags.md is what the table of flags says. */

import { flagsPage } from "../../tools/flags_page.ts";
import { assertFile } from "../helpers/golden.ts";

Deno.test("The page of flags is made from the table", async () => {
  await assertFile("docs/flags.md", flagsPage());
});
