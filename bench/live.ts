import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { builtinMachine } from "../src/machine/builtin.js";
import { startServer } from "../src/vfio-user/index.js";
import { guestFiles } from "../test/vm/guest_files.js";
import type { WatchedGpusData } from "../test/vm/mediator/watched_gpus.js";
import { setUpVm, type VmParts } from "../test/vm/setup.js";
import { VirtualMachine } from "../test/vm/virtual_machine.js";
import { VmUnavailable } from "../test/vm/vm_unavailable.js";
import { type Latency, latencyText } from "./latency.js";
import { PinnedPrograms } from "./pinned_programs.js";

const MACHINE = "c4140";
const TIMEOUT_S = 240;
const GUEST = join(import.meta.dirname, "live_guest.mjs");

type Read = Pick<Latency, "p50" | "p99" | "mean">;
/** What the kernel's VFIO itself takes, in nanoseconds. */
interface Direct {
  gpu: { read: Read };
  edu: { read: Read; interrupt: number };
}
/** What a client takes that has an edu's BAR0 mapped, in nanoseconds. */
interface Mapped {
  /** A read of a register; in turns with it, one of the same BAR mapped without us. */
  mapped: { client: number; own: number };
  /** From the register that raises an interrupt to the eventfd. */
  interrupt: number;
}

/** What one run has found. */
interface Measured {
  /** The kernel's VFIO itself, before and after. */
  direct: [Direct, Direct];
  /** As `serve` hands functions out by default, and with `--trust-vmm`. */
  mediated: { gpu: { read: Read }; edu: Mapped };
  trusted: { edu: { read: Read } & Mapped };
  /** A message to the least of servers and back. */
  message: Read;
}

/**
 * Functions of a live host as `serve --live` serves them, against the kernel's VFIO itself, in one run of one virtual machine:
 * reads of a register, of a mapped one, and interrupts. The kernel was booted with `iomem=relaxed`, so that both tiers map.
 */
export async function run(): Promise<void> {
  console.log("live host, in a virtual machine");
  const folder = mkdtempSync(join(tmpdir(), "linkfence-bench-"));
  try {
    const programs = new PinnedPrograms(folder);
    if (!programs.compile("latency_client") || !programs.compile("minimal_server"))
      return console.log("  no C compiler: not measured");
    const parts = await setUpVm((line) => console.log(`  ${line}`));
    report(await measure(parts, folder));
  } catch (error) {
    if (!(error instanceof VmUnavailable)) throw error;
    console.log(`  not measured: ${error.message}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The GPU is a virtual machine's in this process, so a register of it takes an exit from the guest and a message. */
async function measure(parts: VmParts, folder: string): Promise<Measured> {
  const socket = join(folder, "gpu.sock");
  const name = builtinMachine(MACHINE).gpus[0]?.name ?? "";
  const hardware = await startServer({
    module: new URL("../test/vm/mediator/watched_gpus.ts", import.meta.url),
    data: { machine: MACHINE, sockets: { [name]: socket }, assign: [], memorySize: 2 ** 24 } satisfies WatchedGpusData,
  });
  const gpu = { driver: "vfio-user-pci", bus: "port1", socket: { type: "unix", path: socket } };
  const vm = new VirtualMachine(parts, {
    job: "node /linkfence/guest/live_guest.mjs",
    env: { GPU: "0000:01:00.0" },
    files: {
      ...guestFiles({}),
      "/linkfence/guest/live_guest.mjs": GUEST,
      "/latency_client": join(folder, "latency_client"),
      "/minimal_server": join(folder, "minimal_server"),
    },
    node: true,
    intelIommu: "caching-mode=on",
    kernelParameters: ["iomem=relaxed"],
    sharedMemory: true,
    devices: [
      ...["-device", "pcie-root-port,id=port1,bus=pcie.0,chassis=1,slot=1,addr=4.0", "-device", JSON.stringify(gpu)],
      ...["-device", "pcie-root-port,id=port2,bus=pcie.0,chassis=2,slot=2,addr=5.0", "-device", "edu,bus=port2"],
    ],
    timeoutS: TIMEOUT_S,
  });
  const { status, reason } = await vm.ended;
  await hardware.stop();
  const found = vm.results.get("found");
  if (status !== 0 || found === undefined) throw new Error(`${reason}\n${vm.console.slice(-20).join("\n")}`);
  return JSON.parse(found);
}

function report({ direct, mediated, trusted, message }: Measured): void {
  const line = (name: string, read: Read) => console.log(`    ${name.padEnd(12)} ${latencyText({ ...read, max: 0 })}`);
  const compare = (title: string, served: Read, reads: readonly Read[]) => {
    console.log(`  4-byte read of a trapped register, ${title}`);
    for (const each of reads) line("pread", each);
    line("mediated", served);
    line("C, no device", message);
    const base = mean(reads.map(({ p50 }) => p50));
    const least = (served.p50 / (base + message.p50)).toFixed(2);
    console.log(`    ratio        ${(served.p50 / base).toFixed(1)} to pread, ${least} to pread and a message to C`);
  };
  compare(
    "edu",
    trusted.edu.read,
    direct.map(({ edu }) => edu.read),
  );
  compare(
    "virtual V100",
    mediated.gpu.read,
    direct.map(({ gpu }) => gpu.read),
  );
  const tiers = Object.entries({ "sysfs file": mediated.edu, "--trust-vmm": trusted.edu });
  const micros = (time: number) => `${(time / 1000).toFixed(2)} µs`;
  console.log("  4-byte read of a mapped register, as a ratio to the same BAR mapped without us (aim: 1.0)");
  for (const [tier, { mapped }] of tiers) {
    console.log(`    ${tier.padEnd(12)} ${(mapped.client / mapped.own).toFixed(2)} (${micros(mapped.client)})`);
  }
  const [before = 0, after = 0] = direct.map(({ edu }) => edu.interrupt);
  console.log(
    "  interrupt, from the mapped register that raises it to the eventfd, as a ratio to the kernel's VFIO itself",
  );
  for (const [tier, { interrupt }] of tiers) {
    console.log(`    ${tier.padEnd(12)} ${(interrupt / mean([before, after])).toFixed(2)} (${micros(interrupt)})`);
  }
  console.log(`    itself       ${micros(before)} before, ${micros(after)} after`);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
