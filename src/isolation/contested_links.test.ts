import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, to, withMask } from "../../test/made_up_machine.js";
import { BUILTIN_MACHINES, builtinMachine } from "../machine/builtin.js";
import type { FarEnd, Gpu } from "../machine/machine.js";
import { parseAssignments } from "./assignment.js";
import { contestedLinks } from "./contested_links.js";
import { audit } from "./findings.js";
import { LinkGraph } from "./links.js";
import { makePlan } from "./plan.js";

const [A, B, C] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"];
const NOWHERE: FarEnd = { kind: "none" };
const UNKNOWN: FarEnd = { kind: "unknown" };

function contested(...gpus: Gpu[]): string {
  const found = contestedLinks(machineOf(gpus));
  return gpus
    .flatMap((one) => one.links.filter((link) => found.has(link)).map((l) => `${one.name}${l.number}`))
    .join(" ");
}

test("no built-in machine contradicts itself", () => {
  for (const { name } of BUILTIN_MACHINES) assert.equal(contestedLinks(builtinMachine(name)).size, 0, name);
});

test("ends that name each other, or of which one does not tell, are not contested", () => {
  assert.equal(contested(gpu(A, "a", [to(B, 1)]), gpu(B, "b", [NOWHERE, to(A, 0)])), "");
  assert.equal(contested(gpu(A, "a", [to(B, 1)]), gpu(B, "b", [NOWHERE, to(A)])), "");
  assert.equal(contested(gpu(A, "a", [to(B, 1)]), gpu(B, "b", [])), "");
  assert.equal(contested(gpu(A, "a", [to(B, 1)]), gpu(B, "b", [NOWHERE, UNKNOWN])), "");
  assert.equal(contested(gpu(A, "a", [to(B), to(B)]), gpu(B, "b", [to(A), to(A)])), "");
  assert.equal(contested(gpu(A, "a", [to(B), to(B)]), gpu(B, "b", [to(A), UNKNOWN])), "");
});

test("ends that do not meet are contested on both sides", () => {
  assert.equal(contested(gpu(A, "a", [to(B, 1)]), gpu(B, "b", [to(A, 0), to(A, 1)])), "a0 b0 b1");
  assert.equal(contested(gpu(A, "a", [to(B, 0)]), gpu(B, "b", [NOWHERE])), "a0 b0");
  assert.equal(contested(gpu(A, "a", [to(B, 0)]), gpu(B, "b", [to(C, 0)]), gpu(C, "c", [to(B, 0)])), "a0 b0 c0");
  assert.equal(contested(gpu(A, "a", [to(B, 0)]), gpu(B, "b", [{ kind: "switch", switch: "s" }])), "a0 b0");
});

test("two links on one far end, one bridge, or one number are contested, and so is a far link that its part does not have", () => {
  assert.equal(contested(gpu(A, "a", [to(B, 0), to(B, 0)]), gpu(B, "b", [to(A, 0)])), "a0 a1 b0");
  const bridge: FarEnd = { kind: "bridge", bridge: "0006:00:00.0" };
  assert.equal(contested(gpu(A, "a", [bridge, bridge]), gpu(B, "b", [NOWHERE])), "a0 a1");
  const twice = gpu(A, "a", [to(B), to(C)]);
  const same = { ...twice, links: twice.links.map((link) => ({ ...link, number: 0 })) };
  assert.equal(contested(same, gpu(B, "b", [to(A)]), gpu(C, "c", [to(A)])), "a0 a0");
  assert.equal(contested(gpu(A, "a", [to(B, 6)]), gpu(B, "b", [])), "a0");
});

test("one link too many puts all links of a pair in doubt whose numbers were not read", () => {
  assert.equal(contested(gpu(A, "a", [to(B), to(B)]), gpu(B, "b", [to(A), NOWHERE])), "a0 a1 b0");
  assert.equal(contested(gpu(A, "a", [to(B, 0), to(B)]), gpu(B, "b", [to(A, 0)])), "a1");
});

test("the far end proves nothing about a link that it does not meet", () => {
  const a = gpu(A, "a", [to(B, 1)]);
  const b = withMask(gpu(B, "b", [to(A, 0), to(A, 1)]), 0x30000);
  const graph = new LinkGraph(machineOf([a, b]));
  assert.deepEqual(
    a.links.map((link) => graph.cutAt({ gpu: a, link })),
    ["none"],
  );
  assert.deepEqual(
    audit(machineOf([a, b]), []).findings.map(({ kind }) => kind),
    ["unknown-far-end"],
  );
});

test("a contested link is cut even within one assignment, and no problem once it is", () => {
  const gpus = [gpu(A, "a", [to(B, 0), to(B, 1)]), gpu(B, "b", [to(C, 0), to(A, 1)]), gpu(C, "c", [to(B, 0)])];
  const machine = machineOf(gpus);
  const assignments = parseAssignments(machine, ["x=a,b"]);
  const plan = makePlan(machine, assignments);
  assert.deepEqual(
    plan.gpus.map((one) => one.keptLinks),
    [[1], [1], []],
  );
  assert.equal(plan.isolated, true);
  assert.match(plan.notes.join("\n"), /descriptions of links contradict each other: a, b, c/);
  const fenced = plan.gpus.flatMap((one, i) => {
    const found = gpus[i];
    return found === undefined ? [] : [withMask(found, one.disableMask ?? 0)];
  });
  assert.deepEqual(audit(machineOf(fenced), assignments).findings, []);
});
