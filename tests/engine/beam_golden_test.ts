/** Beam search through the engine: the sequences and scores of the reference, which is transformers. */

import { assert, assertEquals } from "@std/assert";
import type { Engine } from "../../lib/engine/engine.ts";
import type { EarlyStopping } from "../../lib/sampling/param_options.ts";
import { beamParams, sequencesOf, withModel, withTinyModel } from "../helpers/engine_requests.ts";
import type { GoldenModelName } from "../helpers/golden_models.ts";
import { modelTest } from "../helpers/smollm2.ts";

interface GoldenBeam {
  readonly ids: readonly number[];
  readonly score: number;
}

interface Search {
  readonly prompt_ids: readonly number[];
  readonly width: number;
  readonly max_tokens: number;
  readonly length_penalty: number;
}

interface ModeCase extends Search, Readonly<Record<"true" | "false" | "never", GoldenBeam[]>> {
  readonly model: GoldenModelName;
  readonly eos: number;
}

interface SmolCase extends Search {
  readonly early_stopping: EarlyStopping;
  readonly beams: readonly GoldenBeam[];
}

const modeCases: readonly ModeCase[] = readJson("../golden/beam_modes.json").cases;
const smolCases: readonly SmolCase[] = readJson("../golden/smollm2/golden.json").beam;

function readJson(path: string) {
  return JSON.parse(Deno.readTextFileSync(new URL(path, import.meta.url)));
}

/** Scores are given with five digits after the point; logits differ in their last bits. */
const TOLERANCE = 2e-5;

async function check(
  engine: Engine,
  search: Search,
  { earlyStopping, endTokenId, beams, what }: {
    earlyStopping: EarlyStopping;
    endTokenId: number;
    beams: readonly GoldenBeam[];
    what: string;
  },
): Promise<void> {
  const { length_penalty: lengthPenalty, width, max_tokens: maxTokens } = search;
  const params = beamParams({ width, lengthPenalty, earlyStopping }, { maxTokens, logprobs: 0 });
  const promptTokenIds = search.prompt_ids;
  const sequences = await sequencesOf(engine.submit({ id: what, promptTokenIds, params }));
  assertEquals(
    sequences.map((events) => events.map((it) => it.tokenId)),
    beams.map((it) => it.ids),
    what,
  );
  for (const [index, events] of sequences.entries()) {
    const last = events.at(-1)!;
    assertEquals(last.finishReason, last.tokenId === endTokenId ? "stop" : "length", what);
    assertEquals(last.stopReason, null, what);
    const sum = events.reduce((sum, { logprobs }) => sum + logprobs![0]!.logprob, 0);
    const score = sum / events.length ** lengthPenalty;
    const expected = beams[index]!.score;
    const tolerance = TOLERANCE * Math.max(1, Math.abs(expected));
    assert(Math.abs(score - expected) <= tolerance, `${what}: score ${score}, not ${expected}`);
  }
}

for (const name of ["llama", "qwen2", "qwen3"] as const) {
  Deno.test(`Beam search on the golden model ${name} finds what the reference finds, in every mode`, async () => {
    await withTinyModel(name, { threads: 1 }, async (makeEngine) => {
      const cases = modeCases.filter(({ model }) => model === name);
      assert(cases.length >= 6);
      for (const search of cases) {
        for (const mode of ["true", "false", "never"] as const) {
          const engine = makeEngine({ endTokenIds: [search.eos] });
          await check(engine, search, {
            earlyStopping: mode === "never" ? mode : mode === "true",
            endTokenId: search.eos,
            beams: search[mode],
            what: `${search.prompt_ids} to ${search.length_penalty}, ${mode}`,
          });
          await engine.close();
        }
      }
    });
  });
}

modelTest("Beam search on SmolLM2 finds what the reference finds", async (path) => {
  await withModel(path, { maxModelLength: 256 }, async (makeEngine) => {
    const engine = makeEngine({ endTokenIds: [2] });
    // All at once, which takes half the time: a crowd changes no bit of a search.
    await Promise.all(smolCases.map((search) =>
      check(engine, search, {
        earlyStopping: search.early_stopping,
        endTokenId: 2,
        beams: search.beams,
        what: `${search.prompt_ids} to ${search.length_penalty}, ${search.early_stopping}`,
      })
    ));
    await engine.close();
  });
});
