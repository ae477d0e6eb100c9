import assert from "node:assert/strict";
import { test } from "node:test";
import { gpu, machineOf, made, port, portWithoutAcs } from "../../test/made_up_machine.js";
import type { PciFunction } from "../pci/function.js";
import { acsOverrides } from "./acs_overrides.js";

function overridden(commandLine: string, root: PciFunction = port("0000:00:01.0", "root-port", 1)): string[] {
  const functions = [
    { ...root, vendorId: 0x8086, deviceId: 0x1901 },
    made("0000:01:00.0", { vendorId: 0x10de, deviceId: 0x1db1 }),
    port("0000:00:02.0", "root-port", 2),
    made("0000:02:00.0"),
  ];
  const machine = machineOf([gpu("0000:01:00.0", "GPU0", [])], { functions, kernel: { commandLine } });
  return acsOverrides(machine).map(({ parameter, functions: on }) => `${parameter} ${on.join(" ")}`);
}

const bare = portWithoutAcs("0000:00:01.0", "root-port", 1);

test("pcie_acs_override weakens a path only where ports lack ACS", () => {
  assert.deepEqual(overridden("pcie_acs_override=downstream"), []);
  assert.deepEqual(overridden("quiet pcie_acs_override=downstream,multifunction", bare), [
    "pcie_acs_override=downstream,multifunction 0000:00:01.0",
  ]);
  assert.deepEqual(overridden("pcie_acs_override=id:8086:1901", bare), ["pcie_acs_override=id:8086:1901 0000:00:01.0"]);
  assert.deepEqual(overridden("pcie_acs_override=id:8086:1902", bare), []);
});

test("disable_acs_redir weakens the path it names, by address, by path and by ids", () => {
  const hit = (device: string) => [`pci=disable_acs_redir=${device} 0000:00:01.0`];
  for (const device of ["0000:00:01.0", "00:01.0", "pci:8086:1901", "pci:8086:0"]) {
    assert.deepEqual(overridden(`pci=disable_acs_redir=${device}`), hit(device));
  }
  assert.deepEqual(overridden("pci=realloc,disable_acs_redir=00:05.0;00:01.0,noaer"), hit("00:05.0;00:01.0"));
  assert.deepEqual(overridden("pci=disable_acs_redir=00:02.0"), []);
  assert.deepEqual(overridden("pci=disable_acs_redir=00:01.0/00.0"), [
    "pci=disable_acs_redir=00:01.0/00.0 0000:01:00.0",
  ]);
});

test("config_acs weakens where it switches off a bit that isolation needs", () => {
  assert.equal(overridden("pci=config_acs=xx0xxxx@00:01.0").length, 1);
  assert.equal(overridden("pci=config_acs=0xxxxxx@00:01.0").length, 0);
  assert.equal(overridden("pci=config_acs=1111111@00:01.0").length, 0);
  assert.equal(overridden("pci=config_acs=1111111@00:02.0;xxxxxx0@00:01.0").length, 1);
});

test("a command line without overrides, or none, weakens nothing", () => {
  assert.deepEqual(overridden("quiet iommu=pt pci=noaer", bare), []);
  assert.deepEqual(overridden("", bare), []);
});
