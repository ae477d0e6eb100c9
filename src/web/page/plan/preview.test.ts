import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { gpu, machineOf, to, withMask } from "../../../../test/made_up_machine.js";
import { viewOf } from "../../../../test/made_up_view.js";
import { anyMachine } from "../../../../test/picture/any_machine.js";
import { planToServe } from "../../../cli/serve/servable_plan.js";
import { parseAssignments } from "../../../isolation/assignment.js";
import { builtinMachine } from "../../../machine/builtin.js";
import type { Assignment, Machine } from "../../../machine/machine.js";
import { maskText, verdict } from "./plan_words.js";
import { previewOf } from "./preview.js";

function preview(machine: Machine, now: readonly Assignment[], planned: string[], clients: string[] = []) {
  const { state, planning } = viewOf(machine, now, { clients });
  return previewOf(machine, parseAssignments(machine, planned), state.status, planning);
}

function masks(name: string, ...planned: string[]): (string | null)[] {
  const { gpus } = preview(builtinMachine(name), [], planned);
  return gpus.map(({ mask }) => (mask === null ? null : maskText(mask)));
}

test("masks are those of the reference", () => {
  assert.deepEqual(masks("sequoia", "a=GPU0,GPU1", "b=GPU2").slice(0, 3), ["0x000c0000", "0x000c0000", "0x00170000"]);
  const alone = [0, 1, 2, 3, 4, 5].map((index) => `vm${index}=GPU${index}`);
  const six = ["0x001d0000", "0x001d0000", "0x00170000"];
  assert.deepEqual(masks("sequoia", ...alone), [...six, ...six]);
  assert.deepEqual(masks("redbud", "a=GPU0", "b=GPU1", "c=GPU3", "d=GPU4"), Array(4).fill("0x00150000"));
});

test("an A100 has links to cut, and no mask", () => {
  const { gpus } = preview(builtinMachine("hgx-a100-4"), [], ["a=GPU0"]);
  assert.deepEqual(
    gpus.map(({ mask, maskNow }) => [mask, maskNow]),
    gpus.map(() => [null, null]),
  );
  assert.equal(gpus[0]?.cut.length, 12);
});

test("what is different is told from the registers, and links come up with a reset only", () => {
  const [a, b, c] = ["0000:41:00.0", "0000:42:00.0", "0000:43:00.0"];
  const machine = machineOf([
    withMask(gpu(a, "GPU0", [to(b, 0), to(c, 0)]), 0x00010000),
    withMask(gpu(b, "GPU1", [to(a, 0), to(c, 1)]), 0x00030000),
    withMask(gpu(c, "GPU2", [to(a, 1), to(b, 1)]), 0x00020000),
  ]);
  const now = parseAssignments(machine, ["vm1=GPU0,GPU2", "vm2=GPU1"]);
  const { gpus, resets, texts, cutLinks } = preview(machine, now, ["vm1=GPU0,GPU1"]);
  const shown = gpus.map(({ maskNow, newlyCut, restored, reset, owner }) => [
    maskNow,
    newlyCut,
    restored,
    reset,
    owner,
  ]);
  assert.deepEqual(shown, [
    [0x00010000, [1], [0], false, "vm1"],
    [0x00030000, [], [0], true, "vm1"],
    [0x00020000, [0], [], false, "host"],
  ]);
  assert.deepEqual([resets, texts, cutLinks], [["GPU1"], ["vm1=GPU0,GPU1", "vm2="], 2]);
});

test("nothing is reset where nothing changes", () => {
  const machine = builtinMachine("sequoia");
  const now = parseAssignments(machine, ["vm1=GPU0"]);
  const { resets, texts, refusals } = preview(machine, now, ["vm1=GPU0"]);
  assert.deepEqual([resets, texts, refusals], [[], [], []]);
});

test("a GPU with a client stays, and so do those that an assignment loses with it", () => {
  const machine = builtinMachine("sequoia");
  const now = parseAssignments(machine, ["vm1=GPU0,GPU1"]);
  const taken = preview(machine, now, ["vm1=GPU0", "vm2=GPU1"], ["GPU1"]);
  assert.match(taken.refusals.join(), /^process 4711 is connected to GPU1 of vm1.*end it first$/);
  assert.match(verdict(taken), /isolates but is refused/);
  assert.deepEqual(preview(machine, now, ["vm1=GPU1", "vm2=GPU0"], ["GPU1"]).refusals, []);
});

test("a plan is refused here when the server refuses it, and only then", () => {
  const tally = { refused: 0, taken: 0 };
  fc.assert(
    fc.property(anyMachine, fc.boolean(), fc.boolean(), ({ machine, assignments }, virtual, includeHost) => {
      const drawn = { ...machine, virtual };
      const planned = assignments.filter(({ members }) => members.length > 0);
      const { status } = viewOf(drawn).state;
      const { refusals } = previewOf(drawn, planned, status, { includeHost });
      let refusal: string | undefined;
      try {
        planToServe(drawn, planned, { includeHost });
      } catch (error) {
        refusal = (error as Error).message;
      }
      assert.equal(refusals.length > 0, refusal !== undefined, `${refusals} against ${refusal}`);
      if (refusal === undefined) tally.taken++;
      else tally.refused++;
    }),
    { numRuns: 300 },
  );
  assert.ok(tally.taken > 10 && tally.refused > 10, "both were tried");
});
