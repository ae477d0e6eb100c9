import assert from "node:assert/strict";
import { test } from "node:test";
import { resetsOf, snapshotOf, stateOf } from "../../../test/made_up_state.js";
import { builtinMachine } from "../../machine/builtin.js";
import { viewOf, withEvents, withLoss, withState } from "./view.js";

const MACHINE = builtinMachine("c4140");
const ASSIGNMENTS = [{ name: "vm1", members: ["0000:1a:00.0"] }];
const SNAPSHOT = snapshotOf(MACHINE, ASSIGNMENTS);

/** As it comes over the network. */
function copied<T>(value: T): T {
  return structuredClone(value);
}

test("what a state says anew of fences alone leaves machine and owners what they are", () => {
  const view = viewOf(SNAPSHOT);
  const state = copied(stateOf(MACHINE, ASSIGNMENTS));
  for (const { fence } of state.status.functions) if (fence !== undefined) fence.since = "2026-01-31T13:00:00.000Z";
  for (const { links } of state.gpus) for (const link of links) if (link.evidence) link.evidence.readAt = "later";
  const next = withState(view, state);
  assert.equal(next.machine, view.machine);
  assert.equal(next.assignments, view.assignments);
  assert.equal(next.state, state);
  const again = viewOf(copied(SNAPSHOT), next);
  assert.deepEqual([again.machine === view.machine, again.planning === view.planning], [true, true]);
});

test("a link or an owner that is another makes another machine, or other owners", () => {
  const view = viewOf(SNAPSHOT);
  const state = copied(stateOf(MACHINE, ASSIGNMENTS));
  const link = state.gpus[0]?.links[0];
  assert.ok(link !== undefined);
  link.state = "down";
  const next = withState(view, state);
  assert.notEqual(next.machine, view.machine);
  assert.equal(next.machine.gpus[0]?.links[0]?.state, "down");
  assert.equal(next.assignments, view.assignments);
  const other = withState(view, stateOf(MACHINE, [{ name: "vm2", members: ["0000:1a:00.0"] }]));
  assert.notEqual(other.assignments, view.assignments);
});

test("the last 500 events are kept, however many there are", () => {
  let view = viewOf(SNAPSHOT);
  for (let at = 0; at < 100; at++) view = withEvents(view, resetsOf("GPU0", 2, 1 + at * 14));
  assert.equal(view.history.length, 500);
  assert.equal(view.history.at(-1)?.number, 1400);
  assert.equal(withEvents(view, []), view);
});

test("nothing is live after a loss until the server has said what is now", () => {
  const lost = withLoss(viewOf(SNAPSHOT), { since: 1, why: "a test" });
  assert.deepEqual([lost.connected, lost.lost], [false, { since: 1, why: "a test" }]);
  assert.equal(withEvents(lost, resetsOf("GPU0", 1)).connected, false);
  for (const live of [withState(lost, stateOf(MACHINE)), viewOf(SNAPSHOT, lost)]) {
    assert.deepEqual([live.connected, live.lost], [true, undefined]);
  }
});

test("a machine that cannot be read is refused", () => {
  assert.throws(() => viewOf({ ...SNAPSHOT, machine: "{}" }));
});
