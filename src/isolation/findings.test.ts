import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, made, port, portWithoutAcs, to, withMask } from "../../test/made_up_machine.js";
import { builtinMachine } from "../machine/builtin.js";
import type { Machine } from "../machine/machine.js";
import { parseAssignments } from "./assignment.js";
import { audit } from "./findings.js";
import type { IsolationOptions } from "./isolation.js";

const [A, B, C] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"];

function kinds(machine: Machine, assign: string[] = [], options: IsolationOptions = {}): string[] {
  return audit(machine, parseAssignments(machine, assign), options).findings.map(({ kind }) => kind);
}

test("a mesh in separate groups is one finding per pair, saying that groups separate what NVLink joins", () => {
  const { findings } = audit(builtinMachine("c4140"), []);
  assert.equal(findings.length, 6);
  assert.match(findings[0]?.reason ?? "", /IOMMU groups separate GPU0 and GPU1, NVLink joins them: 2 NVLinks/);
  assert.match(findings[0]?.action ?? "", /cut links 0, 1 of GPU0/);
  assert.deepEqual(findings[0]?.functions, ["0000:1a:00.0", "0000:1c:00.0"]);
});

test("a compound group has nothing to find, and with isolate_nvlink the same links are findings", () => {
  assert.deepEqual(kinds(builtinMachine("sequoia")), []);
  assert.equal(kinds(builtinMachine("sequoia"), [], { isolateNvlink: true }).length, 6);
  const booted = { ...builtinMachine("redbud"), kernel: { release: "5.4.0", commandLine: "ro isolate_nvlink" } };
  assert.equal(kinds(booted).length, 2);
});

test("with assignments each of them is an owner, and so is the host", () => {
  const sequoia = builtinMachine("sequoia");
  assert.equal(kinds(sequoia, ["a=GPU0,GPU1,GPU2"]).length, 0);
  assert.equal(kinds(sequoia, ["a=GPU0,GPU1", "b=GPU2"]).length, 2);
  assert.equal(kinds(sequoia, ["a=GPU0"]).length, 2);
});

test("a link that registers prove cut is no finding, one whose state only says so is", () => {
  const pair = (mask?: number) => {
    const a = gpu(A, "a", [to(B, 0)]);
    return machineOf([mask === undefined ? a : withMask(a, mask), gpu(B, "b", [to(A, 0)])]);
  };
  assert.deepEqual(kinds(pair()), ["nvlink"]);
  assert.deepEqual(kinds(pair(0x10000)), []);
  assert.deepEqual(kinds(pair(0x20000)), ["nvlink"]);
  assert.deepEqual(kinds(pair(0xbadf1234)), ["nvlink"]);
  const [a] = pair().gpus;
  assert.ok(a);
  const claimed = { ...a, links: a.links.map((link) => ({ ...link, state: "cut" as const })) };
  assert.deepEqual(kinds(machineOf([claimed, gpu(B, "b", [to(A, 0)])])), ["nvlink"]);
});

test("a link that only one end tells of is a finding all the same", () => {
  assert.deepEqual(kinds(machineOf([gpu(A, "a", []), gpu(B, "b", [to(A, 3)])])).includes("nvlink"), true);
});

test("GPUs on one NVSwitch are joined by their links into it", () => {
  const on = { kind: "switch" as const, switch: "s0" };
  assert.deepEqual(kinds(machineOf([gpu(A, "a", [on]), gpu(B, "b", [on])])), ["nvswitch"]);
  assert.deepEqual(kinds(machineOf([withMask(gpu(A, "a", [on]), 0x10000), gpu(B, "b", [on])])), []);
});

test("links whose far end is not known are a finding until they are cut", () => {
  const lost = gpu(A, "a", [{ kind: "unknown" }]);
  const { findings } = audit(machineOf([lost]), []);
  assert.match(findings[0]?.reason ?? "", /a \(0000:01:00\.0\), GV100: far ends not known \(link 0\)/);
  assert.deepEqual(kinds(machineOf([withMask(lost, 0x10000)])), []);
});

test("a part that may have NVLinks nobody told of is a finding, one without NVLink is none", () => {
  const silent = gpu(A, "a", [], "unknown");
  assert.deepEqual(kinds(machineOf([silent])), ["unknown-far-end"]);
  assert.deepEqual(kinds(machineOf([{ ...silent, nvlink: "none" }])), []);
});

test("a link that ends at the bridge of another owner is a finding", () => {
  const machine = builtinMachine("sequoia");
  assert.deepEqual(kinds(machine, ["a=GPU0,GPU1,GPU2", "b=0006:00:00.0"]), ["nvlink", "pcie"]);
});

test("owners that PCIe does not separate are a finding with the boot parameter that would", () => {
  const functions = (root: typeof port) => [
    root("0000:00:01.0", "root-port", 1, { supported: 0x1d, enabled: 0 }),
    { ...port("0000:01:00.0", "upstream-port", 2), acs: { supported: 0, enabled: 0 } },
    port("0000:02:00.0", "downstream-port", 3),
    made("0000:03:00.0"),
    port("0000:02:01.0", "downstream-port", 4),
    made("0000:04:00.0"),
  ];
  const gpus = [gpu("0000:03:00.0", "a", []), gpu("0000:04:00.0", "b", [])].map((one) => ({
    ...one,
    nvlink: "none" as const,
  }));
  const machine = machineOf(gpus, { functions: functions(port) });
  const { findings } = audit(machine, parseAssignments(machine, ["x=a", "y=b"]));
  assert.deepEqual(
    findings.map(({ kind, functions: of }) => [kind, of]),
    [["pcie", ["0000:03:00.0", "0000:04:00.0"]]],
  );
  assert.match(findings[0]?.action ?? "", /pci=config_acs=xx111x1@0000:00:01\.0/);
  assert.deepEqual(kinds(machine, ["x=a,b"]), []);
  const without = machineOf(gpus, { functions: functions(portWithoutAcs) });
  assert.match(audit(without, parseAssignments(without, ["x=a", "y=b"])).findings[0]?.action ?? "", /one owner/);
});

test("the kernel's own groups stand where the source has them", () => {
  const gpus = [gpu(A, "a", [to(B, 0)]), gpu(B, "b", [to(A, 0)])];
  assert.deepEqual(kinds(machineOf(gpus, { virtual: false, groups: [{ id: 7, members: [A, B] }] })), []);
  const apart = { virtual: false, groups: [7, 8].map((id, i) => ({ id, members: [[A, B][i] ?? ""] })) };
  assert.deepEqual(kinds(machineOf(gpus, apart)), ["nvlink"]);
});

test("a group that our rules do not explain is noted with the likely reason", () => {
  const gpus = [gpu(A, "a", []), gpu(C, "c", [])].map((one) => ({ ...one, nvlink: "none" as const }));
  const machine = machineOf(gpus, { virtual: false, groups: [{ id: 4, members: [A, C] }] });
  assert.match(
    audit(machine, []).notes.join("\n"),
    /IOMMU group 4 .* differs from our rules: .*(run as root|ACS quirk)/,
  );
});

test("disagreements of the source are findings", () => {
  const machine = machineOf([gpu(A, "a", [])], { disagreements: [{ gpus: [A, B], reason: "two against four" }] });
  assert.ok(kinds(machine).includes("disagreement"));
});
