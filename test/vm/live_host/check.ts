/**
 * A live host: four virtual V100s that nobody fences are a guest's own functions, and in the guest linkfence runs as on any
 * host. What the hardware is, is read behind the guest's back, from the registers themselves.
 */
import assert from "node:assert/strict";
import { mkdirSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { qemuArguments } from "../../../src/cli/serve/qemu_arguments.js";
import { builtinMachine } from "../../../src/machine/builtin.js";
import { startServer } from "../../../src/vfio-user/index.js";
import { guestFiles } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { VirtualMachine, type VmOptions } from "../virtual_machine.js";
import type { HardwareRequest, RawSockets } from "./raw_serving.js";

/** GPUs of a C4140, in the order of the guest's ports. */
const GPUS = ["0000:1a:00.0", "0000:1c:00.0", "0000:1d:00.0", "0000:1e:00.0"];
const BUDGET = 400;

/** A host, the program that runs on it, and what it checks. */
interface Host {
  name: string;
  program: string;
  options: Partial<VmOptions>;
  checks: readonly string[];
}

const HOSTS: readonly Host[] = [
  {
    name: "a live host",
    program: "live_host_guest.mjs",
    options: { intelIommu: "caching-mode=on" },
    checks: [
      "reads the host",
      "a dry run touches nothing",
      "fences through sysfs, and the hardware agrees",
      "verify reads it back, with the ledger's intent",
      "watch begins with what is",
      "negative control: plain vfio-pci opens a GPU, and its fence is gone",
      "a reset by somebody else, by reset",
      "a reset by somebody else, by reset_subordinate",
      "a GPU that somebody has open is not touched, and verify says who has it",
      "a GPU that is pulled out is told of, and one that comes back",
      "watch exits 1, for fences were open",
      "a watch of fences that hold exits 0, and one that is to end with an open one ends",
      "disks and networks that the host uses are said to be used",
      "a GPU that a driver has, and somebody uses, is taken only when told",
      "release resets, and gives the GPU back to its driver",
      "a host's GPU that a driver has is taken for the moment, with --include-host",
      "whoever is not root is told so in one line",
      "registers that read all ones prove nothing, and are not written to",
      "a function's own reset goes by its bus when it is told to, and its methods are put back",
      "a port's own reset bit resets, where the kernel has nothing better",
      "without vfio-pci nothing is bound, and the line says modprobe",
      "a GPU that does not come back from its reset is given up, and stays assigned",
    ],
  },
  {
    name: "without an IOMMU",
    program: "no_iommu_guest.mjs",
    options: {},
    checks: [
      "without an IOMMU nothing goes to vfio-pci, and the line says what to boot with",
      "without an IOMMU links are cut all the same, and the missing groups are said",
      "without an IOMMU nothing is served, in one line, and nothing is touched",
    ],
  },
];

async function check({ parts, report, folder }: CheckContext): Promise<void> {
  const sockets = join(folder, "sockets");
  mkdirSync(sockets);
  const paths: RawSockets = Object.fromEntries(GPUS.map((address) => [address, join(sockets, `${address}.sock`)]));
  const hardware = await startServer({ module: new URL("./raw_serving.ts", import.meta.url), data: paths });
  const nvlink = join(folder, "nvlink.txt");
  writeFileSync(nvlink, nvlinkText());
  const boot = (program: string, options: Partial<VmOptions>) =>
    new VirtualMachine(parts, {
      job: `load nvme; load e1000e; node /linkfence/guest/live_host/${program}`,
      files: {
        ...guestFiles({ v100: "v100/guest", live_host: "live_host" }),
        "/linkfence/guest/nvlink.txt": nvlink,
      },
      node: true,
      devices: [...qemuArguments(Object.values(paths), { virtual: true }), ...diskAndNetwork(folder)],
      timeoutS: BUDGET,
      ...options,
    });
  for (const { name, program, options, checks } of HOSTS) {
    const guest = boot(program, options);
    await report.scenario(name, BUDGET, [guest], async () => {
      const asking = answerAsks(guest, (request) => hardware.call(request));
      const end = await guest.ended;
      await asking;
      report.addResults(name, guest.results, checks);
      assert.equal(end.status, 0, end.reason);
    });
  }
  await hardware.stop();
}

/** The carrier's links as `nvidia-smi nvlink -R` prints them; `GPU-2` is where the address of the third GPU belongs. */
function nvlinkText(): string {
  const lines = builtinMachine("c4140").gpus.flatMap(({ links }, index) => [
    `GPU ${index}: Tesla V100-SXM2-16GB (UUID: GPU-c0ffee0${index}-0000-4000-8000-00000000000${index})`,
    ...links.map(({ number, far }) => {
      if (far.kind !== "gpu" || far.link === undefined) throw new Error(`link ${number} leads to no link of a GPU`);
      return `\t Link ${number}: Remote Device 0000GPU-${GPUS.indexOf(far.gpu)}: Link ${far.link}`;
    }),
  ]);
  return `${lines.join("\n")}\n`;
}

/** What a host has besides GPUs. */
function diskAndNetwork(folder: string): string[] {
  const disk = join(folder, "disk");
  writeFileSync(disk, "");
  truncateSync(disk, 16 << 20);
  return [
    ...["-drive", `file=${disk},if=none,id=disk,format=raw`, "-device", "nvme,drive=disk,serial=1,bus=pcie.0"],
    ...["-netdev", "hubport,id=net,hubid=0", "-device", "e1000e,netdev=net,bus=pcie.0"],
  ];
}

/** Answers what the guest asks of the hardware, until it ends. */
async function answerAsks(guest: VirtualMachine, ask: (request: HardwareRequest) => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await guest.reach("hardware");
    } catch {
      return;
    }
    const request = JSON.parse(guest.results.get("ask") ?? "null") as HardwareRequest;
    guest.proceed(JSON.stringify(await ask(request)));
  }
}

await runCheck(check);
