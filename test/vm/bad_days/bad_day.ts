import { truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestFiles } from "../guest_files.js";
import { WatchedHost } from "../mediator/watched_host.js";
import type { CheckContext } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";

/**
 * A host with four GPUs, a disk and a network, and what goes wrong there.
 * @param program of the guest, that reports the checks
 * @param budget seconds
 */
export async function badDay(
  { parts, report, folder }: CheckContext,
  program: string,
  checks: readonly string[],
  budget: number,
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const host = await WatchedHost.start(folder, 4, ["vm1=GPU0", "vm2=GPU1"]);
  const disk = join(folder, "disk");
  writeFileSync(disk, "");
  truncateSync(disk, 16 << 20);
  const vm = new VirtualMachine(parts, {
    job: `load nvme; load e1000e; node /linkfence/guest/bad_days/${program}`,
    env: { ...host.env, ...env },
    files: guestFiles({ bad_days: "bad_days/guest" }),
    node: true,
    intelIommu: "caching-mode=on",
    sharedMemory: true,
    devices: [...host.devices, ...others(disk)],
    timeoutS: budget,
  });
  await report.scenario("bad days", budget, [vm], async () => {
    await host.answer(vm);
    const { reason } = await vm.ended;
    report.addResults("bad days", vm.results, checks);
    report.add("the guest ended in good order", reason === "done" ? undefined : reason);
  });
  await host.stop();
}

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
