import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { renderToString } from "preact-render-to-string";
import { boardsOf } from "../../../test/made_up_boards.js";
import { gpu, machineOf, to } from "../../../test/made_up_machine.js";
import { resetsOf, snapshotOf, stateOf } from "../../../test/made_up_state.js";
import { anyMachine } from "../../../test/picture/any_machine.js";
import { BUILTIN_MACHINES, builtinMachine } from "../../machine/builtin.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import { announcement } from "./announcer.js";
import { App } from "./app.js";
import { type View, viewOf, withLoss } from "./view.js";

const HOSTILE = `</p><script>alert("1")</script><img src=x onerror=y>&amp;\u202e\ud800`;

/** What a server tells, without what a capture refuses: the page takes a machine as it comes. */
function viewFor(machine: Machine, assignments: readonly Assignment[] = []): View {
  const history = machine.gpus.slice(0, 3).flatMap(({ name }, index) => resetsOf(name, 2, 1 + index * 14));
  const view = viewOf(snapshotOf(builtinMachine("c4140")));
  return { ...view, machine, assignments, state: stateOf(machine, assignments), history };
}

function page(machine: Machine, assignments: readonly Assignment[] = []): string {
  return renderToString(<App view={viewFor(machine, assignments)} />);
}

/** What no part of the page is made of, and names of generated machines would like to be. */
const FOREIGN = /<(?:b|script|img|iframe|object|embed|link|meta|base)[\s>]/;

test("any machine is a page, whatever names it has", () => {
  fc.assert(
    fc.property(anyMachine, ({ machine, assignments }) => {
      const html = page(machine, assignments);
      assert.equal(FOREIGN.exec(html)?.[0], undefined);
      assert.equal(/\u202e|cannot be (drawn|shown)/.exec(html)?.[0], undefined);
    }),
    { numRuns: 40 },
  );
});

test("every built-in machine is a page", () => {
  for (const { name } of BUILTIN_MACHINES) {
    const html = page(builtinMachine(name));
    for (const id of ["picture", "findings", "fences", "timeline", "isolation", "attach", "plan"]) {
      assert.match(
        html,
        new RegExp(`<section id="${id}" aria-labelledby="${id}-heading"><h2 id="${id}-heading">`),
        name,
      );
    }
    assert.match(html, /<svg[^>]*role="img"/, name);
    assert.match(html, /virtual hardware/);
  }
});

test("hostile names are text and nothing else", () => {
  const long = `${HOSTILE}${"x".repeat(300)}`;
  const machine = machineOf(
    [
      gpu("0000:41:00.0", HOSTILE, [to("0000:42:00.0", 0)]),
      gpu("0000:42:00.0", long, [{ kind: "switch", switch: HOSTILE }]),
    ],
    { name: HOSTILE, source: HOSTILE, unknown: [{ what: HOSTILE, functions: [], action: HOSTILE }] },
  );
  const html = page(machine, [{ name: HOSTILE, members: ["0000:41:00.0"] }]);
  assert.equal(FOREIGN.exec(html)?.[0] ?? /\u202e/.exec(html)?.[0], undefined);
  assert.match(html, /&lt;script>alert\(&quot;1&quot;\)/);
});

test("machines with nothing to see say so", () => {
  const none = page(machineOf([]));
  assert.match(none, /no GPUs/);
  assert.match(none, /nothing assigned/);
  const unknown = machineOf([{ ...gpu("0000:41:00.0", "GPU0", []), part: "unknown", nvlink: "unknown" }]);
  assert.match(page(unknown), /unknown part/);
  assert.match(page(unknown), /No register was read as evidence/);
});

test("more links than a picture can have are said, and the rest of the page is there", () => {
  const count = 160;
  const addresses = Array.from({ length: count }, (_, at) => `0000:${(at + 16).toString(16).padStart(2, "0")}:00.0`);
  const gpus = addresses.map((address, at) =>
    gpu(
      address,
      `GPU${at}`,
      addresses.filter((far) => far !== address).map((far) => to(far)),
    ),
  );
  const html = page(machineOf(gpus));
  assert.match(html, /25440 links are too many for a picture \(20000 at most\)/);
  assert.match(html, /id="isolation-heading"/);
  assert.match(html, /\d+ more: linkfence audit has all of them/);
});

test("what is lost is said in every part, and nothing is called good", () => {
  const live = viewFor(builtinMachine("sequoia"), [{ name: "vm1", members: ["0004:04:00.0"] }]);
  assert.match(renderToString(<App view={live} />), /class="tag good"/);
  const html = renderToString(<App view={withLoss(live, { since: Date.now(), why: "the server does not answer" })} />);
  assert.doesNotMatch(html, /class="tag (good|bad|waiting)"/);
  assert.match(html, /was in force/);
  assert.match(html, /role="alert"><p class="lost">/);
  assert.equal(html.match(/class="as-of"/g)?.length, 7);
});

test("a failed fence says why, and links that wait for a reset which", () => {
  const html = page(boardsOf(1, { gpus: 5, switches: 2 }));
  assert.match(html, /1 fence failed/);
  assert.match(html, /link 0 does not read as cut/);
  assert.match(html, /1 link \(1\) cut until its next reset/);
});

test("an announcement names few, and failures first", () => {
  const told = (step: string, ...gpus: string[]) =>
    gpus.map((name, number) => ({ number, time: "", event: "fence", gpu: name, step }));
  assert.equal(announcement(told("sbr", "GPU0")), "");
  assert.equal(
    announcement([...told("done", "GPU0", "GPU0"), ...told("failed", "GPU1")]),
    "fence failed: GPU1; reset and fenced: GPU0",
  );
  assert.equal(announcement(told("done", "A", "B", "C", "D", "E")), "reset and fenced: A, B, C and 2 more");
});
