import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../machine/builtin.js";
import type { Gpu, Machine } from "../machine/machine.js";
import { ga100LinkRegisters, LINK_DISABLE, NV_PMC_ENABLE } from "../machine/part.js";
import { runToEnd } from "../vfio/steps.js";
import { CONFIG_READY_MS, RESET_HOLD_MS, VirtualMachine } from "./virtual_machine.js";

const GPU0 = "0004:04:00.0";
const GPU1 = "0004:05:00.0";
const GPU2 = "0004:06:00.0";

test("all links of a built-in machine are up, to GPUs and to the CPU", () => {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  for (const { address } of machine.machine.gpus) assert.deepEqual(machine.linksUp(address), [0, 1, 2, 3, 4, 5]);
});

test("a link is down at both ends when either end has it disabled", () => {
  const description = builtinMachine("sequoia");
  for (const link of description.gpus[0]?.links ?? []) {
    const machine = new VirtualMachine(description);
    machine.gpu(GPU0).writeBar0(LINK_DISABLE, 1 << (16 + link.number));
    assert.equal(machine.linkUp(GPU0, link.number), false);
    if (link.far.kind === "gpu") assert.equal(machine.linkUp(link.far.gpu, link.far.link ?? -1), false);
    assert.equal(machine.linksUp(GPU0).length, 5);
  }
});

test("links need the NVLink engine at both GPUs, and a driver that asks for them", () => {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  machine.gpu(GPU2).writeBar0(NV_PMC_ENABLE, 0);
  assert.deepEqual(machine.linksUp(GPU2), []);
  assert.deepEqual(machine.linksUp(GPU0), [0, 1, 4, 5]);
  machine.gpu(GPU1).driverAsks = false;
  assert.deepEqual(machine.linksUp(GPU0), [1, 5], "what is left leads to the CPU");
  const [first = ""] = machine.machine.gpus[0]?.bridges ?? [];
  machine.bridge(first).driverAsks = false;
  assert.equal(machine.linksUp(GPU0).length, 1, "the NPU's driver is asked for too");
});

test("GA100 links are down when either end is blocked and locked", () => {
  const machine = new VirtualMachine(builtinMachine("hgx-a100-4"));
  const [first] = machine.machine.gpus;
  const far = first?.links[0]?.far;
  assert.ok(first !== undefined && far?.kind === "gpu" && far.link !== undefined);
  const { block, lock } = ga100LinkRegisters(far.link);
  machine.gpu(far.gpu).writeBar0(block, 1);
  assert.equal(machine.linkUp(first.address, 0), true);
  machine.gpu(far.gpu).writeBar0(lock, 1);
  assert.equal(machine.linkUp(first.address, 0), false);
});

test("a raw reset at the port freezes the GPU's NPU bridges; through firmware nothing freezes", () => {
  const raw = new VirtualMachine(builtinMachine("sequoia"));
  const bridges = raw.machine.gpus[0]?.bridges ?? [];
  assert.equal(bridges.length, 2);
  raw.secondaryBusReset(GPU0, "port");
  assert.equal(raw.hmis, 2);
  for (const bridge of bridges) {
    assert.equal(raw.bridge(bridge).readConfig(0, 4), 0xffffffff);
    raw.bridge(bridge).writeConfig(4, 2, 2);
  }

  const firmware = new VirtualMachine(builtinMachine("sequoia"));
  firmware.secondaryBusReset(GPU0, "firmware");
  assert.equal(firmware.hmis, 0);
  for (const bridge of bridges) assert.equal(firmware.bridge(bridge).readConfig(0, 4), 0x04ea1014);
  assert.equal(firmware.bridge(bridges[0] ?? "").inReset, true, "the link stays in reset until a driver trains it");
});

test("the raw reset is as harmless when the NPU's links were put into reset first, by hold or by the bridge's FLR", () => {
  const held = new VirtualMachine(builtinMachine("sequoia"));
  held.holdNpuLinks(GPU0);
  held.secondaryBusReset(GPU0, "port");
  assert.equal(held.hmis, 0);

  const byFlr = new VirtualMachine(builtinMachine("sequoia"));
  for (const address of byFlr.machine.gpus[0]?.bridges ?? []) {
    const bridge = byFlr.bridge(address);
    const express = bridge.readConfig(0x34, 1);
    bridge.writeConfig(express + 8, 2, 0x8000);
    assert.equal(bridge.inReset, true);
  }
  byFlr.secondaryBusReset(GPU0, "port");
  assert.equal(byFlr.hmis, 0);
});

test("a frozen bridge comes back only by a reset of its NPU, and its link only when it is released", () => {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  machine.secondaryBusReset(GPU0, "port");
  machine.releaseNpuLinks(GPU0);
  const address = machine.machine.gpus[0]?.bridges[0] ?? "";
  assert.equal(machine.bridge(address).frozen, true);
  machine.resetNpu(machine.bridge(address).bridge.npu);
  assert.equal(machine.bridge(address).readConfig(0, 4), 0x04ea1014);
  assert.equal(machine.bridge(address).linkEnabled, false);
  machine.releaseNpuLinks(GPU0);
  assert.equal(machine.bridge(address).linkEnabled, true);
});

test("a secondary bus reset hits every GPU of the bus and no other", () => {
  const description = structuredClone(builtinMachine("c4140"));
  const [first, second, third] = description.gpus;
  assert.ok(first && second && third);
  const shared: Gpu = { ...second, address: first.address.replace(/\.0$/, ".1"), name: "shared" };
  const machine = new VirtualMachine({ ...description, gpus: [first, shared, third] });
  machine.secondaryBusReset(first.address, "port");
  assert.equal(machine.gpu(shared.address).readConfig(0x10, 4) >>> 4, 0);
  assert.notEqual(machine.gpu(third.address).readConfig(0x10, 4) >>> 4, 0);
});

test("a reset in real time answers after hold and config ready, and with it all that is on the bus", () => {
  const description = structuredClone(builtinMachine("c4140"));
  const [first, second] = description.gpus;
  assert.ok(first && second);
  const shared: Gpu = { ...second, address: first.address.replace(/\.0$/, ".1"), name: "shared" };
  const machine = new VirtualMachine({ ...description, gpus: [first, shared] });
  const steps = machine.resetSteps(first.address, "port");
  const others = machine.resetSteps(shared.address, "port");
  const wait = steps.next().value;
  assert.ok(wait && wait.deadline - performance.now() > RESET_HOLD_MS + CONFIG_READY_MS - 20);
  others.next();
  const answers = () => [first, shared].map(({ address }) => machine.gpu(address).readConfig(0, 4) !== 0xffffffff);
  assert.deepEqual(answers(), [false, false]);
  steps.next();
  assert.deepEqual(answers(), [false, false], "the other reset holds both still");
  others.next();
  assert.deepEqual(answers(), [true, true]);
  assert.deepEqual(machine.linksUp(first.address), []);
});

test("a reset in real time takes the NPU's links along: through firmware unharmed, at the port frozen", () => {
  for (const [path, hmis] of [
    ["firmware", 0],
    ["port", 2],
  ] as const) {
    const machine = new VirtualMachine(builtinMachine("sequoia"));
    runToEnd(machine.resetSteps(GPU0, path));
    assert.equal(machine.hmis, hmis);
    const up = machine.machine.gpus[0]?.bridges.map((at) => machine.bridge(at).linkEnabled);
    assert.deepEqual(up, [hmis === 0, hmis === 0]);
  }
});

test("a port has NPU resets only where there are NPU bridges", () => {
  assert.ok(new VirtualMachine(builtinMachine("sequoia")).port(GPU0).holdNpuLinks !== undefined);
  const carrier = new VirtualMachine(builtinMachine("c4140"));
  assert.equal(carrier.port(carrier.machine.gpus[0]?.address ?? "").holdNpuLinks, undefined);
});

test("links whose far link number is not known meet in ascending order", () => {
  const machine = new VirtualMachine(withoutFarLinks(builtinMachine("c4140")));
  const [first] = machine.machine.gpus;
  const [a, b] = first?.links.filter((link) => link.far.kind === "gpu") ?? [];
  assert.ok(first !== undefined && a?.far.kind === "gpu" && b?.far.kind === "gpu" && a.far.gpu === b.far.gpu);
  const back = machine.gpu(a.far.gpu).gpu.links.filter((l) => l.far.kind === "gpu" && l.far.gpu === first.address);
  machine.gpu(a.far.gpu).writeBar0(LINK_DISABLE, 1 << (16 + (back[1]?.number ?? 0)));
  assert.deepEqual([machine.linkUp(first.address, a.number), machine.linkUp(first.address, b.number)], [true, false]);
});

test("a far end that is a switch, unknown or not in the machine counts as enabled; none is down", () => {
  const description = builtinMachine("c4140");
  const [gpu] = structuredClone(description.gpus);
  assert.ok(gpu);
  gpu.links = [
    { number: 0, far: { kind: "switch", switch: "s0" }, state: "up", origin: "wiring" },
    { number: 1, far: { kind: "unknown" }, state: "unknown", origin: "wiring" },
    { number: 2, far: { kind: "gpu", gpu: "00ff:00:00.0", link: 1 }, state: "up", origin: "wiring" },
    { number: 3, far: { kind: "none" }, state: "down", origin: "wiring" },
  ];
  const machine = new VirtualMachine({ ...description, gpus: [gpu] });
  assert.deepEqual(machine.linksUp(gpu.address), [0, 1, 2]);
  machine.gpu(gpu.address).writeBar0(LINK_DISABLE, 0x00070000);
  assert.deepEqual(machine.linksUp(gpu.address), []);
});

test("asking for a device that is not there is an error with a code", () => {
  const machine = new VirtualMachine(builtinMachine("c4140"));
  assert.throws(() => machine.gpu("ffff:00:00.0"), { code: "EVIRTUAL_ADDRESS" });
  assert.throws(() => machine.bridge("ffff:00:00.0"), { code: "EVIRTUAL_ADDRESS" });
});

test("a machine of 16,384 GPUs can be made, and every link of it asked", { timeout: 60_000 }, () => {
  const [model] = builtinMachine("dgx1v").gpus;
  assert.ok(model);
  const gpus = Array.from({ length: 16384 }, (_, i): Gpu => {
    const address = `${(i >> 8).toString(16).padStart(4, "0")}:${(i & 0xff).toString(16).padStart(2, "0")}:00.0`;
    return { ...model, address, name: address };
  });
  const description: Machine = { ...builtinMachine("dgx1v"), gpus, functions: [] };
  const machine = new VirtualMachine(description);
  for (const gpu of gpus) machine.linksUp(gpu.address);
  assert.deepEqual(machine.linksUp(gpus[16383]?.address ?? ""), machine.linksUp(gpus[0]?.address ?? ""));
});

function withoutFarLinks(machine: Machine): Machine {
  const gpus = machine.gpus.map((gpu) => ({
    ...gpu,
    links: gpu.links.map((link) =>
      link.far.kind === "gpu" ? { ...link, far: { kind: "gpu" as const, gpu: link.far.gpu } } : link,
    ),
  }));
  return { ...machine, gpus };
}
