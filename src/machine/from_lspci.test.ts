import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { LspciError } from "../pci/lspci.js";
import { machineFromLspci } from "./from_lspci.js";
import type { Machine } from "./machine.js";

const SEED = new URL("../../../shared/seeds/000_4eafd4601dd51eac.txt", import.meta.url);
const seed = { skip: existsSync(SEED) ? false : "the mail thread with the three listings is not here" };

function data(name: string): string {
  return readFileSync(new URL(`../../test/data/lspci/${name}`, import.meta.url), "utf8");
}

function gpus(machine: Machine): string[] {
  return machine.gpus.map(({ name, part, nvlink, links }) => `${name} ${part} ${nvlink} ${links.length}`);
}

/** What is unknown about a function. */
function unknown(machine: Machine, address: string): string {
  const about = machine.unknown.filter(({ functions }) => functions.includes(address));
  return about.map(({ what, action }) => `${what}; ${action}`).join("\n");
}

test("the mail with the three listings is three GPUs, each with what is not known about it", seed, () => {
  const machine = machineFromLspci(readFileSync(SEED, "utf8"), "mail");
  assert.deepEqual(gpus(machine), [
    "0000:03:00.0 unknown none 0",
    "000a:01:00.0 GP100 present 4",
    "0035:03:00.0 GV100 present 6",
  ]);
  const v100 = unknown(machine, "0035:03:00.0");
  assert.match(v100, /\(Tesla V100 SXM2\) has 6 NVLinks: far ends not known.*--nvlink FILE.*--live/);
  assert.match(v100, /ids are not in the text, its part GV100 is taken from its name; use lspci -nn/);
  assert.match(v100, /bridges above .* are not in the text/);
  assert.match(v100, /IOMMU groups are not in the text/);
  assert.match(unknown(machine, "000a:01:00.0"), /has 4 NVLinks: far ends not known/);
  assert.doesNotMatch(unknown(machine, "0000:03:00.0"), /NVLinks/);
  assert.match(unknown(machine, "0000:03:00.0"), /\(Tesla K80\): vendor and device ids are not in the text/);
});

test("every link is there, its far end and state unknown, and says where it is from", () => {
  const [gpu] = machineFromLspci("01:00.0 0302: 10de:1db1 (rev a1)", "text").gpus;
  assert.deepEqual(
    gpu?.links,
    [0, 1, 2, 3, 4, 5].map((number) => ({ number, far: { kind: "unknown" }, state: "unknown", origin: "lspci" })),
  );
});

test("a machine of a listing is not virtual, has no bridges and keeps to the Machine type", () => {
  const machine = machineFromLspci(data("carrier_vvv.txt"), "lspci listing carrier");
  assert.deepEqual(
    [machine.virtual, machine.platform, machine.source, machine.bridges, machine.memory],
    [false, "unknown", "lspci listing carrier", [], []],
  );
  assert.equal(machine.functions.length, 8);
  assert.ok(machine.functions.every((fn) => !("text" in fn)));
});

test("IOMMU groups are taken when every function has one", () => {
  const machine = machineFromLspci(data("carrier_v.txt"), "text");
  assert.deepEqual(machine.groups?.[0], { id: 1, members: ["0035:00:00.0"] });
  assert.equal(machine.groups?.length, 8);
  assert.doesNotMatch(unknown(machine, "0035:03:00.0"), /IOMMU groups/);
});

test("IOMMU groups of some functions are not passed off as all", () => {
  const text = data("carrier_v.txt").replace(", IOMMU group 30", "");
  const machine = machineFromLspci(text, "text");
  assert.equal(machine.groups, undefined);
  assert.match(unknown(machine, "0035:03:00.0"), /IOMMU groups are not in the text, or not for all/);
});

test("a whole listing leaves nothing open but the links", () => {
  const machine = machineFromLspci(data("carrier_vvv.txt"), "text");
  assert.deepEqual(gpus(machine), ["0000:3b:00.0 GA100 present 12", "0035:03:00.0 GV100 present 6"]);
  assert.deepEqual(
    machine.unknown.map(({ functions }) => functions),
    [["0000:3b:00.0"], ["0035:03:00.0"]],
  );
  assert.match(unknown(machine, "0035:03:00.0"), /far ends not known/);
});

test("a GPU that nobody can tell says so and is not taken for one without NVLinks", () => {
  const machine = machineFromLspci("01:00.0 0302: 10de:3340 (rev a1)", "text");
  assert.deepEqual(gpus(machine), ["0000:01:00.0 unknown unknown 0"]);
  assert.match(unknown(machine, "0000:01:00.0"), /not known whether it has NVLinks/);
});

test("a denied capability list is unknown and says what to do", () => {
  assert.match(
    unknown(machineFromLspci(data("mail.txt"), "text"), "0000:3b:00.0"),
    /capabilities are not in the text; .*root/,
  );
});

test("virtual functions, audio functions and NVSwitches are functions but no GPUs", () => {
  const text = [
    "41:00.0 3D controller: NVIDIA Corporation GA100 [A100 PCIe 80GB] (rev a1)",
    "\tCapabilities: [bcc] Single Root I/O Virtualization (SR-IOV)",
    "41:00.4 3D controller: NVIDIA Corporation GA100 [A100 PCIe 80GB] (rev a1)",
    "42:00.1 Audio device: NVIDIA Corporation TU102 High Definition Audio Controller (rev a1)",
    "43:00.0 Bridge: NVIDIA Corporation GA100 [A100 NVSwitch] (rev a1)",
  ];
  const machine = machineFromLspci(text.join("\n"), "text");
  assert.deepEqual(gpus(machine), ["0000:41:00.0 GA100 present 12"]);
  assert.equal(machine.functions.length, 4);
});

test("two listings of the same machine complete each other", () => {
  const terse = "0035:03:00.0 3D controller [0302]: NVIDIA Corporation GV100GL [Tesla V100 SXM2] [10de:1db1] (rev a1)";
  const verbose = [
    "0035:03:00.0 3D controller: NVIDIA Corporation GV100GL [Tesla V100 SXM2] (rev a1)",
    "\tFlags: fast devsel, IRQ 82, NUMA node 8",
    "\tCapabilities: [900] #19",
    "\tKernel driver in use: vfio-pci",
  ].join("\n");
  for (const text of [`${terse}\n\n${verbose}`, `${verbose}\n\n${terse}`]) {
    const [fn, ...others] = machineFromLspci(text, "text").functions;
    assert.deepEqual(others, []);
    assert.deepEqual([fn?.deviceId, fn?.numaNode, fn?.driver, fn?.capabilities.length], [0x1db1, 8, "vfio-pci", 1]);
  }
});

test("two devices at one address are two machines: the second is left out and reported", () => {
  const text = "01:00.0 0302: 10de:1db1 (rev a1)\n\n01:00.0 0302: 10de:1db4 (rev a1)\n";
  const machine = machineFromLspci(text, "text");
  assert.deepEqual(gpus(machine), ["0000:01:00.0 GV100 present 6"]);
  assert.match(unknown(machine, "0000:01:00.0"), /one device on line 1 and another on line 3, which was left out/);
});

test("lines that could not be used are reported, and no more of them than a person reads", () => {
  const text = `01:00.0 0302: 10de:1db1 (rev a1)\n${"0000:03:00.0 gibberish\n".repeat(30)}`;
  const entries = machineFromLspci(text, "text").unknown.filter(({ functions }) => functions.length === 0);
  assert.equal(entries.length, 21);
  assert.match(entries[0]?.what ?? "", /^line 2: begins like a device line/);
  assert.equal(entries.at(-1)?.what, "10 more lines could not be used");
});

test("a text without a function is an error of the listing", () => {
  assert.throws(() => machineFromLspci("\u0089PNG\r\n\u001a\n", "text"), LspciError);
});
