/**
 * The real client inside the host that serves: a guest has virtual V100s and serves one by `linkfence serve --live` to a
 * QEMU that runs in that guest, emulation in emulation. Exit status: 0 all passed, 1 something failed, 77 this machine
 * cannot do it.
 */
import { basename, join } from "node:path";
import { guestFiles } from "../guest_files.js";
import { WatchedHost } from "../mediator/watched_host.js";
import { ProgramPrefix } from "../program_prefix.js";
import { runCheck } from "../run_check.js";
import type { VmParts } from "../setup.js";
import { VirtualMachine } from "../virtual_machine.js";

/** Seconds; most of it for a Linux that is emulated twice. */
const BUDGET = 660;
const RESULTS = [
  "serve --live serves one GPU",
  "QEMU takes the function by the arguments that serve prints, and its firmware sets it up",
  "whatever is written, its links stay cut",
  "the same after a reset by the port above it",
  "QEMU ends when it is switched off, and had nothing to complain about",
  "from the hardware's side: used, reset, and never touched while a link was not cut",
  "a Linux in that QEMU finds the same, before and after it resets its function",
  "the end: the function has its former driver",
];

const QEMU = "usr/bin/qemu-system-x86_64";
const FIRMWARE = ["usr/share/seabios", "usr/share/qemu"];
/** Where the guest has QEMU, and what QEMU boots. */
const PREFIX = "/nested/qemu";
const KERNEL = "/nested/vmlinux";

/** The QEMU of this machine, with its libraries, its firmware and a kernel, for the guest. */
async function nestedFiles({ qemu, kernel }: VmParts): Promise<Record<string, string>> {
  const libraries = await qemu.libraries(QEMU);
  const files = [QEMU, ...FIRMWARE].map((name) => [join(PREFIX, name), join(qemu.folder, name)]);
  const folder = join(PREFIX, "usr/lib/x86_64-linux-gnu");
  const loaded = libraries.map((library) => [join(folder, basename(library)), library]);
  return Object.fromEntries([...files, ...loaded, [KERNEL, kernel]]);
}

/** How the guest starts it; what `serve` prints is to follow. Linux starts sooner on a processor that has less to set up. */
function nestedCommand(): string {
  const firmware = FIRMWARE.flatMap((name) => ["-L", join(PREFIX, name)]);
  const args = ["-machine", "q35", "-cpu", "qemu64", "-accel", "tcg", "-nodefaults", "-no-user-config", "-no-reboot"];
  args.push("-display", "none", ...firmware);
  return JSON.stringify(new ProgramPrefix(PREFIX).command(QEMU, args));
}

await runCheck(async ({ parts, report, folder }) => {
  const host = await WatchedHost.start(folder, 4, ["vm1=GPU0"]);
  const vm = new VirtualMachine(parts, {
    job: "node /linkfence/guest/nested/nested_guest.mjs",
    env: { ...host.env, QEMU: nestedCommand() },
    files: { ...guestFiles({ nested: "nested/guest", v100: "v100/guest" }), ...(await nestedFiles(parts)) },
    node: true,
    intelIommu: "caching-mode=on",
    sharedMemory: true,
    memoryMb: 2048,
    devices: [...host.devices, "-smp", "2"],
    timeoutS: BUDGET,
  });
  await report.scenario("nested", BUDGET, [vm], async () => {
    await host.answer(vm);
    const { reason } = await vm.ended;
    report.addResults("nested", vm.results, RESULTS);
    report.add("the guest ended in good order", reason === "done" ? undefined : reason);
  });
  await host.stop();
});
