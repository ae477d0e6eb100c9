import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import fc from "fast-check";
import { gpu, machineOf, made } from "../../../../test/made_up_machine.js";
import { anyMachine } from "../../../../test/picture/any_machine.js";
import { changedAssignments } from "../../../cli/serve/assignment_change.js";
import { HOST, ownersOf, parseAssignments } from "../../../isolation/assignment.js";
import { builtinMachine } from "../../../machine/builtin.js";
import type { Assignment, Machine } from "../../../machine/machine.js";
import { assignCommand, changesBetween, changeTexts } from "./assignment_changes.js";
import {
  assignmentsOf,
  type Draft,
  freeName,
  isUntouched,
  newDraft,
  newOwnerProblem,
  ownersIn,
  rebased,
  settled,
  withMove,
  withOwner,
  withoutOwner,
} from "./draft.js";

const sequoia = builtinMachine("sequoia");
const [GPU0 = "", GPU1 = "", GPU2 = "", GPU3 = ""] = sequoia.gpus.map(({ address }) => address);

function given(...texts: string[]): Assignment[] {
  return parseAssignments(sequoia, texts);
}

function texts(machine: Machine, draft: Draft, current = draft.base): string[] {
  return changeTexts(machine, changesBetween(current, assignmentsOf(machine, draft)));
}

type Step = { kind: "move" | "add" | "remove"; at: number; to: number; name: string };
const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom("move", "move", "move", "add", "remove"),
  at: fc.nat(20),
  to: fc.nat(20),
  name: fc.oneof(fc.constantFrom("vm1", "vm2", "a"), fc.stringMatching(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$/)),
});

function carriedOut(machine: Machine, draft: Draft, { kind, at, to, name }: Step): Draft {
  const owners = ownersIn(draft);
  if (kind === "add") return newOwnerProblem(draft, name) === undefined ? withOwner(draft, name) : draft;
  const owner = owners[to % owners.length] ?? HOST;
  if (kind === "move") {
    const moved = machine.gpus[at % machine.gpus.length];
    return moved === undefined ? draft : withMove(machine, draft, moved.address, owner);
  }
  const has = assignmentsOf(machine, draft).some((each) => each.name === owner);
  return owner === HOST || has ? draft : withoutOwner(draft, owner);
}

/** Each member with its first owner only: a server has no others. */
function servable(assignments: readonly Assignment[]): Assignment[] {
  const seen = new Set<string>();
  const alone = assignments.map(({ name, members }) => ({
    name,
    members: members.filter((member) => seen.size < seen.add(member).size),
  }));
  return alone.filter(({ members }) => members.length > 0);
}

test("the command makes exactly the assignments that were planned, whatever was moved", () => {
  fc.assert(
    fc.property(anyMachine, fc.array(step, { maxLength: 12 }), ({ machine, assignments }, steps) => {
      const base = servable(assignments);
      const draft = steps.reduce((now, each) => carriedOut(machine, now, each), newDraft(base));
      const planned = assignmentsOf(machine, draft);
      assert.deepEqual(changedAssignments(machine, base, texts(machine, draft)), planned);
      if (isUntouched(draft)) assert.deepEqual(planned, base);
    }),
    { numRuns: 300 },
  );
});

test("a GPU is whose it was given to", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
      const base = given("vm1=GPU0,GPU1", "vm2=GPU2");
      const draft = steps.reduce((now, each) => carriedOut(sequoia, now, each), newDraft(base));
      const owner = ownersOf(sequoia, assignmentsOf(sequoia, draft));
      const before = ownersOf(sequoia, base);
      for (const { address } of sequoia.gpus) {
        const wanted = draft.moved.get(address) ?? before(address);
        assert.equal(owner(address), ownersIn(draft).includes(wanted) ? wanted : HOST);
      }
    }),
  );
});

test("only what changes is in the command, and who has nothing left ends", () => {
  const start = newDraft(given("vm1=GPU0,GPU1", "vm2=GPU2"));
  assert.deepEqual(texts(sequoia, start), []);
  const moved = withMove(sequoia, start, GPU2, "vm1");
  assert.deepEqual(texts(sequoia, moved), ["vm1=GPU0,GPU1,GPU2", "vm2="]);
  assert.deepEqual(texts(sequoia, withMove(sequoia, moved, GPU2, "vm2")), []);
  assert.deepEqual(texts(sequoia, withMove(sequoia, withOwner(start, "vm3"), GPU3, "vm3")), ["vm3=GPU3"]);
  assert.deepEqual(texts(sequoia, withMove(sequoia, start, GPU1, HOST)), ["vm1=GPU0"]);
});

test("what an assignment names of a GPU goes with it", () => {
  const [bridge = ""] = sequoia.gpus[0]?.bridges ?? [];
  const start = newDraft(given(`vm1=GPU0,${bridge},GPU1`, "vm2=GPU2"));
  const planned = assignmentsOf(sequoia, withMove(sequoia, start, GPU0, "vm2"));
  assert.deepEqual(planned, [
    { name: "vm1", members: [GPU1] },
    { name: "vm2", members: [GPU2, GPU0, bridge] },
  ]);
  const one = gpu("0000:41:00.0", "GPU0", []);
  const card = machineOf([one], { functions: [made(one.address), made("0000:41:00.1"), made("0000:50:00.0")] });
  const whole = newDraft([{ name: "vm1", members: ["0000:41:00.1", "0000:50:00.0"] }]);
  const released = assignmentsOf(card, withMove(card, whole, one.address, HOST));
  assert.deepEqual(released, [{ name: "vm1", members: ["0000:50:00.0"] }]);
});

test("GPUs go by address where their names would be read as something else", () => {
  const gpus = ["a,b", "GPU 1", "x=y", "gpu4", "GPU4", "-"].map((name, index) =>
    gpu(`0000:${41 + index}:00.0`, name, []),
  );
  const machine = machineOf(gpus);
  for (const { address } of gpus) {
    const draft = withMove(machine, withOwner(newDraft([]), "vm1"), address, "vm1");
    assert.deepEqual(changedAssignments(machine, [], texts(machine, draft)), [{ name: "vm1", members: [address] }]);
  }
});

test("the command is the same words to a shell, whatever the folder is called", () => {
  const hostile = [
    "/tmp/a b",
    "/tmp/$(touch x)",
    "/tmp/`id`",
    "/tmp/'q'",
    '/tmp/"',
    "/tmp/a\nb",
    "/tmp/*?[x]",
    "/tmp/;&|<>#~!",
  ];
  for (const folder of hostile) {
    const command = assignCommand(folder, ["vm1=GPU0,GPU1", "vm3="]);
    const words = command.replace(/^linkfence/, "printf '%s\\0'");
    const { stdout, stderr } = spawnSync("sh", ["-c", words], { encoding: "utf8", timeout: 20_000 });
    assert.deepEqual(stdout.split("\0"), ["assign", "vm1=GPU0,GPU1", "vm3=", "--socket-dir", folder, ""], stderr);
  }
});

test("a draft without a wish of its own follows what is assigned, and one that has come true begins anew", () => {
  const [before, after] = [given("vm1=GPU0"), given("vm1=GPU0,GPU1")];
  assert.deepEqual(settled(sequoia, newDraft(before), after), newDraft(after));
  assert.deepEqual(settled(sequoia, withOwner(newDraft(before), "vm7"), after).added, ["vm7"]);
  const wished = withMove(sequoia, newDraft(before), GPU1, "vm1");
  assert.deepEqual(settled(sequoia, wished, after), newDraft(after));
  assert.equal(settled(sequoia, wished, before), wished);
});

test("a plan outlives what others assign meanwhile, and its moves can be put on that", () => {
  const wished = withMove(sequoia, newDraft(given("vm1=GPU0", "vm2=GPU2")), GPU1, "vm2");
  const now = given("vm9=GPU3", "vm1=GPU0");
  assert.equal(settled(sequoia, wished, now), wished, "it is left as it is");
  const moved = rebased(sequoia, wished, now);
  assert.deepEqual(assignmentsOf(sequoia, moved), given("vm9=GPU3", "vm1=GPU0", "vm2=GPU1"));
  assert.deepEqual(texts(sequoia, moved), ["vm2=GPU1"], "and nobody else's change is undone");
});

test("new owners have names that the command line takes, and that are free", () => {
  const draft = newDraft(given("vm1=GPU0"));
  assert.equal(freeName(draft), "vm2");
  assert.equal(newOwnerProblem(draft, "vm2"), undefined);
  for (const name of ["", "host", "HOST", "-x", ".x", "a b", "a=b", "x".repeat(65), "vm1", "<b>"]) {
    assert.notEqual(newOwnerProblem(draft, name), undefined, name);
  }
});
