/**
 * The kernel's VFIO as linkfence uses it: QEMU's edu and nvme, opened in a guest by `KernelContainer` without a server. Exit
 * status: 0 all passed, 1 something failed, 77 this machine cannot do it.
 */
import assert from "node:assert/strict";
import { guestFiles } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";

/** Seconds for each machine; alone on two processors they take a third of that. */
const BUDGET = 160;
const RELAXED_BUDGET = 110;

const FILES = guestFiles({ kernel_vfio: "kernel_vfio/guest" });
const GUEST = "node /linkfence/guest/kernel_vfio/kernel_vfio_guest.mjs";

const EXPECTED = [
  "a group that the host uses",
  "a function that vfio-pci has not",
  "regions and interrupts",
  "dma",
  "dma outside the maps",
  "dma after unmapping",
  "a map that is cancelled",
  "read only",
  "refused maps",
  "a large map",
  "msi",
  "intx",
  "nvme identify",
  "reset",
  "hot reset",
  "the client is gone",
  "removal",
  "closing",
  "RLIMIT_MEMLOCK",
];

/**
 * Four root ports: an edu, an nvme, two edus on one bus, and a switch without ACS, whose ports share a group: an edu, and an
 * nvme that the guest's driver has.
 */
const DEVICES = [
  "pcie-root-port,id=port1,bus=pcie.0,chassis=1,slot=1,addr=3.0",
  "pcie-root-port,id=port2,bus=pcie.0,chassis=2,slot=2,addr=4.0",
  "pcie-root-port,id=port3,bus=pcie.0,chassis=3,slot=3,addr=5.0",
  "pcie-root-port,id=port4,bus=pcie.0,chassis=4,slot=4,addr=6.0",
  "x3130-upstream,id=switch,bus=port4",
  "xio3130-downstream,id=port5,bus=switch,chassis=5,slot=5,addr=0.0,multifunction=on",
  "xio3130-downstream,id=port6,bus=switch,chassis=6,slot=6,addr=0.1",
  "edu,bus=port1",
  "nvme,bus=port2,drive=disk1,serial=linkfence-check",
  "edu,bus=port3,addr=0.0,multifunction=on",
  "edu,bus=port3,addr=0.1",
  "edu,bus=port5",
  "nvme,bus=port6,drive=disk2,serial=linkfence-host",
].flatMap((device) => ["-device", device]);
const DISKS = ["disk1", "disk2"].flatMap((name) => [
  "-blockdev",
  `driver=null-co,node-name=${name},size=1048576,read-zeroes=on`,
]);

function boot({ parts }: CheckContext, job: string, timeoutS: number, kernelParameters: string[]): VirtualMachine {
  const devices = [...DISKS, ...DEVICES];
  const intelIommu = "caching-mode=on";
  return new VirtualMachine(parts, { job, files: FILES, node: true, devices, intelIommu, kernelParameters, timeoutS });
}

async function opened(context: CheckContext): Promise<void> {
  const vm = boot(
    context,
    `load nvme\n${GUEST} group devices || exit 1\nulimit -l 1024\n${GUEST} memlock\n`,
    BUDGET,
    [],
  );
  await context.report.scenario("kernel VFIO", BUDGET, [vm], async () => {
    const { status, reason } = await vm.ended;
    context.report.addResults("kernel VFIO", vm.results, EXPECTED);
    assert.equal(status, 0, reason);
  });
}

async function relaxed(context: CheckContext): Promise<void> {
  const vm = boot(context, `${GUEST} relaxed\n`, RELAXED_BUDGET, ["iomem=relaxed"]);
  await context.report.scenario("iomem=relaxed", RELAXED_BUDGET, [vm], async () => {
    const { status, reason } = await vm.ended;
    context.report.addResults("iomem=relaxed", vm.results, ["sysfs file"]);
    assert.equal(status, 0, reason);
  });
}

await runCheck(async (context) => {
  await opened(context);
  await relaxed(context);
});
