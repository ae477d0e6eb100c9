import assert from "node:assert/strict";
import { test } from "node:test";
import { snapshotOf, stateOf } from "../../../test/made_up_state.js";
import { builtinMachine } from "../../machine/builtin.js";
import { overallState } from "./overall_state.js";
import { type View, viewOf, withLoss } from "./view.js";

const MACHINE = builtinMachine("c4140");
const ASSIGNMENTS = [{ name: "vm1", members: ["0000:1a:00.0"] }];
const FINDING = { kind: "nvlink" } as const;

type State = "in force" | "renewing" | "failed" | "unfenced";

/** The machine with fences in these states, that of the assigned GPU first. */
function viewWith(...states: State[]): View {
  const state = stateOf(MACHINE, ASSIGNMENTS);
  state.status.functions.forEach(({ fence }, index) => {
    if (fence !== undefined) fence.state = states[index] ?? "in force";
  });
  return viewOf(snapshotOf(MACHINE, ASSIGNMENTS, { state }));
}

test("fenced is said when every fence stands and nothing crosses", () => {
  const { tone, short, long } = overallState(viewWith(), []);
  assert.deepEqual([tone, short], ["good", "fenced"]);
  assert.match(long, /as far as is known$/);
  assert.match(overallState(viewWith("renewing"), []).long, /GPU0 being reset/);
});

test("the worst is what is said", () => {
  assert.deepEqual(overallState(viewWith("failed", "failed"), [FINDING]).short, "2 fences failed");
  assert.deepEqual(overallState(viewWith("renewing"), [FINDING]).short, "1 finding");
  assert.deepEqual(overallState(viewWith("unfenced"), []).short, "1 GPU not fenced");
  assert.equal(overallState(viewWith("in force", "unfenced"), []).short, "fenced", "the host's GPUs need none");
});

test("nothing good is said of what nobody has, and nothing at all of what is not known now", () => {
  const nobody = overallState(viewOf(snapshotOf(MACHINE, [], { state: { ...stateOf(MACHINE), ...{} } })), []);
  assert.notEqual(nobody.tone, "good");
  const lost = overallState(withLoss(viewWith(), { since: 1, why: "the server does not answer" }), []);
  assert.deepEqual(lost, { tone: "stale", short: "state not known", long: "the server does not answer" });
});
