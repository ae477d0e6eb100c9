/**
 * Real devices through the mediator: QEMU's edu and nvme, which a guest's kernel has, served by `linkfence serve --live` in
 * that guest to clients in it. Exit status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestFiles } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { setUpVm, type VmParts } from "../setup.js";
import { VirtualMachine } from "../virtual_machine.js";

/** Seconds for each machine; alone on two processors they take half of that. */
const BUDGET = 220;
const TIER_BUDGET = 140;

const FILES = guestFiles({ served_devices: "served_devices/guest" });
const GUEST = "node /linkfence/guest/served_devices/served_devices_guest.mjs";

const MEDIATED = [
  "serves functions that are no GPUs",
  "dma",
  "dma outside the maps",
  "functions of one assignment share memory",
  "dma after unmapping",
  "another assignment's memory is out of reach",
  "msi",
  "intx",
  "an interrupt while the serving process is stopped",
  "dma that is under way when the client goes",
  "nvme identify",
  "reset",
  "the client is gone",
  "memory without a descriptor",
  "no memory with a descriptor at all",
  "RLIMIT_MEMLOCK",
  "given back",
];
const TRUST = [
  "--trust-vmm hands out the device",
  "interrupts while the serving process is stopped",
  "given back by --trust-vmm",
];

/** Two edus and an nvme, each behind a root port of its own; the disk's bytes are random. */
function devicesOf(folder: string): string[] {
  const disk = join(folder, "disk");
  writeFileSync(disk, randomBytes(1 << 20));
  const functions = ["edu", "edu", "nvme,drive=disk,serial=linkfence-check"].flatMap((device, index) => {
    const slot = `chassis=${index + 1},slot=${index + 1},addr=${index + 3}.0`;
    return ["-device", `pcie-root-port,id=port${index},bus=pcie.0,${slot}`, "-device", `${device},bus=port${index}`];
  });
  return ["-blockdev", `driver=file,node-name=disk,filename=${disk},read-only=off`, ...functions];
}

interface Boot {
  name: string;
  parts: VmParts;
  job: string;
  expected: readonly string[];
  budget: number;
  kernelParameters?: string[];
}

async function boot({ report, folder }: CheckContext, options: Boot): Promise<void> {
  const { name, parts, job, expected, budget, kernelParameters = [] } = options;
  const vm = new VirtualMachine(parts, {
    job,
    files: FILES,
    node: true,
    devices: devicesOf(folder),
    intelIommu: "caching-mode=on",
    kernelParameters,
    timeoutS: budget,
  });
  await report.scenario(name, budget, [vm], async () => {
    const { status, reason } = await vm.ended;
    report.addResults(name, vm.results, expected);
    assert.equal(status, 0, reason);
  });
}

await runCheck(async (context) => {
  const { parts } = context;
  const job = `load nvme\nulimit -l 1024\n${GUEST} mediated trust\n`;
  const expected = [...MEDIATED, ...TRUST];
  await boot(context, { name: "served devices", parts, job, expected, budget: BUDGET });
  await boot(context, {
    name: "kernel 7.2, iomem=relaxed",
    parts: await setUpVm((line) => console.log(`        ${line}`), "forky"),
    job: `load nvme\n${GUEST} dma-buf sysfs-file\n`,
    kernelParameters: ["iomem=relaxed"],
    expected: ["a dma-buf of a BAR", "the default tier: sysfs file", "given back"],
    budget: TIER_BUDGET,
  });
});
