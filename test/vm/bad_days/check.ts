/**
 * What can go wrong on a live host: the server is killed at ten moments, hardware breaks, something is missing. Exit status: 0
 * all passed, 1 something failed, 77 this machine cannot do it.
 */
import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestFiles } from "../guest_files.js";
import { WatchedHost } from "../mediator/watched_host.js";
import { runCheck } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";

const BUDGET = 400;
const RESULTS = [
  "killed at ten moments, each next start goes on from there",
  "killed, and released without a server: the driver is there again",
  "a GPU that somebody has open by VFIO is refused, with the process",
  "registers that read all ones: that GPU is not served, says why, and the others are",
  "a group with a function that a driver has is refused with its name",
  "an ordinary user gets one line",
  "without vfio-pci nothing is touched, and the line says modprobe",
  "a GPU that does not come back keeps nobody else waiting, and is served no longer",
];

await runCheck(async ({ parts, report, folder }) => {
  const host = await WatchedHost.start(folder, 4, ["vm1=GPU0", "vm2=GPU1"]);
  const disk = join(folder, "disk");
  writeFileSync(disk, "");
  truncateSync(disk, 16 << 20);
  const vm = new VirtualMachine(parts, {
    job: "load nvme; load e1000e; node /linkfence/guest/bad_days/bad_days_guest.mjs",
    env: host.env,
    files: guestFiles({ bad_days: "bad_days/guest" }),
    node: true,
    intelIommu: "caching-mode=on",
    sharedMemory: true,
    devices: [...host.devices, ...others(disk)],
    timeoutS: BUDGET,
  });
  await report.scenario("bad days", BUDGET, [vm], async () => {
    await host.answer(vm);
    const { reason } = await vm.ended;
    report.addResults("bad days", vm.results, RESULTS);
    report.add("the guest ended in good order", reason === "done" ? undefined : reason);
  });
  await host.stop();
});

/** A disk behind a port, and two network functions of one device that nothing keeps apart. */
function others(disk: string): string[] {
  const port = (id: string, chassis: number) =>
    `pcie-root-port,id=${id},bus=pcie.0,chassis=${chassis},slot=${chassis},addr=${chassis.toString(16)}.0`;
  return [
    ["-device", port("port11", 11)],
    ["-drive", `file=${disk},if=none,id=disk,format=raw`, "-device", "nvme,drive=disk,serial=1,bus=port11"],
    ["-device", port("port12", 12)],
    ["-device", "e1000e,bus=port12,addr=0.0,multifunction=on", "-device", "e1000e,bus=port12,addr=0.1"],
  ].flat();
}
