import assert from "node:assert/strict";
import { test } from "node:test";
import { renderToString } from "preact-render-to-string";
import { boardsOf } from "../../../../test/made_up_boards.js";
import { gpu, machineOf, to } from "../../../../test/made_up_machine.js";
import { viewOf } from "../../../../test/made_up_view.js";
import { parseAssignments } from "../../../isolation/assignment.js";
import { builtinMachine } from "../../../machine/builtin.js";
import type { View } from "../connection.js";
import { PlanMode } from "./plan_mode.js";

function page(view: View): string {
  return renderToString(<PlanMode view={view} />);
}

test("it begins with the assignments as they are", () => {
  const machine = builtinMachine("sequoia");
  const html = page(viewOf(machine, parseAssignments(machine, ["vm1=GPU0,GPU1", "vm2=GPU2"])));
  assert.equal(html.match(/class="plan-card[ "]/g)?.length, 6);
  for (const owner of ["host", "vm1", "vm2"]) assert.ok(html.includes(`aria-label="GPUs of ${owner}"`), owner);
  assert.match(html, /This plan isolates; it is what is assigned now/);
  assert.match(html, /Nothing changes, so there is no command/);
  assert.match(html, /this machine is virtual/);
  assert.equal(html.match(/Owner<span[^>]*> of GPU\d/g)?.length, 6, "each field says whose it is");
});

test("a machine of nobody, and one without GPUs", () => {
  assert.match(page(viewOf(builtinMachine("c4140"))), /aria-label="GPUs of host"/);
  assert.match(page(viewOf(machineOf([]))), /This machine has no GPUs/);
});

test("72 GPUs are 72 cards", () => {
  const machine = boardsOf(9, { gpus: 8, switches: 12 });
  const assignments = [{ name: "vm1", members: machine.gpus.slice(0, 8).map(({ address }) => address) }];
  assert.equal(page(viewOf(machine, assignments)).match(/class="plan-card[ "]/g)?.length, 72);
});

test("names from a machine are text and nothing else", () => {
  const hostile = `<img src=x onerror="alert(1)">\u202e</title></svg>${"x".repeat(300)}`;
  const machine = machineOf([gpu("0000:41:00.0", hostile, [])], { name: hostile, source: hostile });
  const html = page(viewOf(machine));
  assert.doesNotMatch(html, /<img|\u202e/);
  assert.match(html, /&lt;img src=x/);
});

test("a GPU without a fence stays with the host, and says why", () => {
  const html = page(viewOf(machineOf([gpu("0000:41:00.0", "GPU0", [], "unknown")])));
  assert.match(html, /only the host can have it: linkfence has no fence for this part/);
  assert.doesNotMatch(html, /<select|draggable="true"/);
});

test("who has a client cannot lose its GPU, and problems have an action", () => {
  const machine = builtinMachine("sequoia");
  const html = page(viewOf(machine, parseAssignments(machine, ["vm1=GPU0"]), { clients: ["GPU0"] }));
  assert.match(html, /In use by process 4711: it cannot leave vm1 until that ends/);
  const [a, b] = ["0000:41:00.0", "0000:42:00.0"];
  const pair = [gpu(a, "GPU0", [to(b, 0)]), gpu(b, "GPU1", [to(a, 0)], "unknown")];
  const odd = page(viewOf(machineOf(pair), [{ name: "vm1", members: [b] }]));
  assert.match(odd, /This plan does not isolate/);
  assert.match(odd, /Problem:<\/strong> GPU1 .* is no part that linkfence knows how to fence/);
  assert.match(odd, /leave it to the host; GP100, GV100 and GA100 can be fenced/);
});

test("a server that is not there, and a machine that is real, are called so", () => {
  const real = { ...builtinMachine("c4140"), virtual: false };
  const html = page(viewOf(real, [], { more: { connected: false } }));
  assert.match(html, /The server is not there at the moment/);
  assert.match(html, /This machine is real: its hardware is touched/);
  assert.doesNotMatch(html, /virtual/);
});
