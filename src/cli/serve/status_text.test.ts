import assert from "node:assert/strict";
import { test } from "node:test";
import type { FenceJson, StatusJson } from "./serving_json.js";
import { statusLines } from "./status_text.js";

const NOW = new Date(2026, 10, 21, 12, 0, 0);
const TODAY = new Date(2026, 10, 21, 5, 30, 21).toISOString();
const BEFORE = new Date(2026, 10, 2, 23, 59, 0).toISOString();

function fence(part: Partial<FenceJson> = {}): FenceJson {
  const expected = { disableMask: "0x000c0000", cut: [2, 3] };
  const actual = { ...expected, linksUp: [0, 1, 4, 5] };
  return { state: "in force", since: TODAY, expected, actual, stillCut: [], reason: null, ...part };
}

function gpu(name: string, part: Partial<StatusJson["functions"][number]> = {}): StatusJson["functions"][number] {
  const socket = `/run/linkfence/${name}-0004:04:00.0.sock`;
  const rest = { regions: [], iommuGroup: null, warnings: [], client: null };
  return { address: "0004:04:00.0", name, kind: "gpu", assignment: "vm1", socket, ...rest, fence: fence(), ...part };
}

function text(functions: StatusJson["functions"], assignments: StatusJson["assignments"] = []): string {
  const where = { pid: 7, startedAt: BEFORE, socketDir: "/run/linkfence", stateDir: "/var/lib/linkfence" };
  const lines = statusLines({ machine: "m", virtual: true, ...where, fenced: true, assignments, functions }, NOW);
  return lines.join("\n");
}

test("what is fenced, served and attached is said first, and since when: today's by the clock", () => {
  const client = { pid: 4242, uid: 1000, gid: 107, since: TODAY };
  const said = text([
    gpu("GPU0", { client }),
    gpu("GPU1", { assignment: "host", socket: null, fence: fence({ since: BEFORE }) }),
  ]);
  assert.match(
    said,
    /^m \(virtual\): process 7 since Nov 02 23:59, in \/run\/linkfence\nfenced, 1 function served, 1 attached\n/,
  );
  assert.match(said, /\nGPU0 +0004:04:00\.0 +vm1 +in force +05:30:21 +0x000c0000 +0 1 4 5\n/);
  assert.match(said, /\nGPU1 +0004:04:00\.0 +host +in force +Nov 02 23:59 +0x000c0000 +0 1 4 5\n/);
  assert.match(said, /\nGPU0-0004:04:00\.0\.sock +vm1 +process 4242, uid 1000, gid 107 +05:30:21$/);
  assert.equal(Math.max(...said.split("\n").map((line) => line.length)) <= 80, true, said);
});

test("a fence that has failed is counted first, and its reason is told", () => {
  const actual = { disableMask: null, cut: null, linksUp: null };
  const said = text([gpu("GPU0", { fence: fence({ state: "failed", since: null, actual, reason: "no answer" }) })]);
  assert.match(said, /\n1 fence failed, 1 function served, none attached\n/);
  assert.match(said, /\nGPU0 .* failed +- +- +-\nGPU0: no answer\n/);
});

test("links that stay cut longer than they have to, and cuts of a part without a mask, are told", () => {
  const cut = { disableMask: null, cut: [0, 1, 3, 4, 5, 6, 7, 9] };
  const said = text([gpu("GPU0", { fence: fence({ expected: cut, actual: { ...cut, linksUp: [] }, stillCut: [1] }) })]);
  assert.match(said, /in force +05:30:21 +0 1 3-7 9 +-\nGPU0: links 1 come up with its next reset only\n/);
});

test("an assignment's members, its guest's memory and what of it nobody serves are told", () => {
  const base = { since: TODAY, notServed: [] };
  const [one, other] = [["0004:04:00.0"], ["0004:04:00.0", "0006:00:00.0"]];
  const said = text(
    [gpu("GPU0")],
    [
      { ...base, name: "vm1", members: one, pinnedBytes: String(4 * 2 ** 30) },
      { ...base, name: "vm2", members: other, pinnedBytes: "0", notServed: ["0006:00:00.0"] },
    ],
  );
  assert.match(said, /\nvm1 \(GPU0\) since 05:30:21, 4\.0 GiB of its guest's memory mapped\n/);
  assert.match(
    said,
    /\nvm2 \(GPU0 0006:00:00\.0\) since 05:30:21, none of .*\nvm2 also has 0006:00:00\.0, which nobody/,
  );
  assert.match(text([]), /\nnothing is assigned$/);
});
