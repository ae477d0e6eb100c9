import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import { changedAssignments, withoutAssignment } from "./assignment_change.js";

const machine = builtinMachine("sequoia");
const [GPU0 = "", GPU1 = "", GPU2 = ""] = machine.gpus.map(({ address }) => address);
const NOW = [
  { name: "vm1", members: [GPU0, GPU1] },
  { name: "vm2", members: [GPU2] },
];

function change(...texts: string[]): string[] {
  return changedAssignments(machine, NOW, texts).map(({ name, members }) => `${name}=${members.join()}`);
}

test("an assignment is added behind the others, replaced in its place, or ended", () => {
  assert.deepEqual(change("vm3=GPU3"), [`vm1=${GPU0},${GPU1}`, `vm2=${GPU2}`, "vm3=0035:03:00.0"]);
  assert.deepEqual(change("vm1=GPU0"), [`vm1=${GPU0}`, `vm2=${GPU2}`]);
  assert.deepEqual(change("vm1="), [`vm2=${GPU2}`]);
  assert.deepEqual(change("vm2=GPU1,GPU2", "vm1=GPU0"), [`vm1=${GPU0}`, `vm2=${GPU1},${GPU2}`]);
  assert.deepEqual(change("vm1=", "vm2=", "a=GPU0"), [`a=${GPU0}`]);
});

test("what ends nothing, or is said twice, is refused with what there is", () => {
  assert.throws(() => change("vm3="), { code: "EUSAGE", message: /"vm3".*vm1, vm2/ });
  assert.throws(() => change("vm1=", "vm1="), { code: "EUSAGE", message: /twice/ });
  assert.throws(() => change("vm1=GPU0", "vm1="), { code: "EUSAGE", message: /twice/ });
  assert.throws(() => change("vm1=GPU0", "vm1=GPU1"), { code: "EASSIGN", message: /twice/ });
  assert.throws(() => change("="), { code: "EASSIGN" });
  assert.throws(() => change("vm1"), { code: "EASSIGN" });
  assert.throws(() => withoutAssignment([], "vm1"), { message: /none at all/ });
});
