import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { FencedDevice } from "../src/fence/fenced_device.js";
import { LINK_DISABLE } from "../src/machine/part.js";
import { Container, ContainerMember } from "../src/vfio/container.js";
import {
  pause,
  runSteps,
  runToEnd,
  type Steps,
  VFIO_PCI_BAR0_REGION_INDEX,
  VFIO_PCI_CONFIG_REGION_INDEX,
  type VfioDevice,
} from "../src/vfio/index.js";
import { GpuDevice } from "../src/virtual/gpu_device.js";
import { CONFIG_READY_MS, RESET_HOLD_MS } from "../src/virtual/virtual_machine.js";
import { type Latency, latencyText, median } from "./latency.js";
import { allowedCpus, PinnedPrograms } from "./pinned_programs.js";
import { sixOwners } from "./six_owners.js";

const FENCES = 3000;
const FENCES_WITH_DELAYS = 20;
const ROUNDS = 9;
/** Accesses of one block; blocks of what is compared alternate. */
const BLOCK = 20_000;
const BLOCKS = 60;

/** What a fence costs: one, six at once, and each access through it. */
export async function run(): Promise<void> {
  console.log("fence of a virtual V100 from SBR to verified, with six owners on a Sequoia");
  await benchCpu();
  await benchSixAtOnce();
  benchAccess();
  await benchSocket();
}

async function benchCpu(): Promise<void> {
  const { fences, addresses } = sixOwners("at once");
  const cold = cpuTime(() => runToEnd(fences.renewAll())) / addresses.length;
  const one = (count: number) => fences.of(addresses[count % addresses.length] ?? "");
  const warm =
    cpuTime(() => {
      for (let count = 0; count < FENCES; count++) runToEnd(one(count).renew());
    }) / FENCES;
  const slow = sixOwners("as on a bus");
  await runSteps(slow.fences.renewAll());
  const delayed = await cpuTimeOf((count) => {
    return slow.fences.of(slow.addresses[count % addresses.length] ?? "").renew();
  });
  const waiting = await cpuTimeOf(() => pause(RESET_HOLD_MS + CONFIG_READY_MS));
  const text = (time: number) => `${time.toFixed(2)} ms`;
  console.log(
    `  CPU time of one (limit: 1 ms)  ${text(warm)}; of each of the first six, not yet compiled, ${text(cold)}`,
  );
  console.log(`    with its delays              ${text(delayed)}, of which waiting alone takes ${text(waiting)}`);
}

/** Milliseconds of CPU that steps take on the event loop, the median of several. */
async function cpuTimeOf(steps: (count: number) => Steps): Promise<number> {
  const times: number[] = [];
  for (let count = 0; count < FENCES_WITH_DELAYS; count++) {
    const before = process.cpuUsage();
    await runSteps(steps(count));
    times.push(cpuSince(before));
  }
  return median(times);
}

async function benchSixAtOnce(): Promise<void> {
  const { fences, addresses } = sixOwners("as on a bus");
  await runSteps(fences.renewAll());
  const times = { one: [] as number[], six: [] as number[] };
  for (let round = 0; round < ROUNDS; round++) {
    times.one.push(await wallTime(() => runSteps(fences.of(addresses[round % addresses.length] ?? "").renew())));
    times.six.push(await wallTime(() => runSteps(fences.renewAll())));
    const open = fences.all.find(({ state }) => state.kind !== "in force");
    if (open !== undefined) throw new Error(`the fence of ${open.plan.name} is ${open.state.kind}`);
  }
  const [one, six] = [median(times.one), median(times.six)];
  console.log(
    `  wall time with delays          one ${one.toFixed(1)} ms, six at once ${six.toFixed(1)} ms: ratio ${(six / one).toFixed(2)} (limit: 1.5)`,
  );
}

/** The same GPU by itself, fenced, and as it is served. */
function benchAccess(): void {
  const { virtual, fences, addresses } = sixOwners("at once");
  const [address = ""] = addresses;
  const raw = new GpuDevice(virtual, address);
  runToEnd(fences.renewAll());
  const fenced = new FencedDevice(raw, fences.of(address), { pageSize: 4096 });
  const served = new ContainerMember(fenced, new Container());
  raw.write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_COMMAND, Uint8Array.of(PCI_COMMAND_MEMORY, 0));
  console.log("  4-byte access in this process, without a socket");
  for (const [name, region, offset, access] of ACCESSES) {
    const devices = [raw, fenced, served];
    const times: number[][] = devices.map(() => []);
    for (let block = 0; block < BLOCKS; block++) {
      for (const [i, device] of devices.entries()) times[i]?.push(access(device, region, offset));
    }
    // The first half warms up.
    const [alone = 0, behind = 0, shared = 0] = times.map((all) => median(all.slice(BLOCKS >> 1)));
    const text = (time: number) => `${time.toFixed(0).padStart(4)} ns`;
    console.log(
      `    ${name.padEnd(29)} raw ${text(alone)}  fenced ${text(behind)}  as served ${text(shared)}  (+${(shared - alone).toFixed(0)} ns)`,
    );
  }
  raw.dispose();
}

const PCI_COMMAND = 0x04;
const PCI_COMMAND_MEMORY = 1 << 1;
const PCI_BAR0 = 0x10;
/** Where the window of BAR0 onto the memory is: a register that keeps what is written. */
const BAR0_WINDOW = 0x1700;

const ACCESSES: readonly [string, number, number, (device: VfioDevice, region: number, offset: number) => number][] = [
  ["read of BOOT_0", VFIO_PCI_BAR0_REGION_INDEX, 0, timeReads],
  ["write of the BAR0 window", VFIO_PCI_BAR0_REGION_INDEX, BAR0_WINDOW, timeWrites],
  ["write of the disable register", VFIO_PCI_BAR0_REGION_INDEX, LINK_DISABLE, timeWrites],
  ["config read of BAR0", VFIO_PCI_CONFIG_REGION_INDEX, PCI_BAR0, timeReads],
];

const word = new Uint8Array(4);

/** Nanoseconds of one. */
function timeReads(device: VfioDevice, region: number, offset: number): number {
  const start = process.hrtime.bigint();
  for (let count = 0; count < BLOCK; count++) device.read(region, offset, word);
  return Number(process.hrtime.bigint() - start) / BLOCK;
}

/** Nanoseconds of one. It writes zero, which no register minds. */
function timeWrites(device: VfioDevice, region: number, offset: number): number {
  word.fill(0);
  const start = process.hrtime.bigint();
  for (let count = 0; count < BLOCK; count++) device.write(region, offset, word);
  return Number(process.hrtime.bigint() - start) / BLOCK;
}

/** The same register over a socket, beside the copy engine of the examples, which has next to no work with its own. */
async function benchSocket(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "linkfence-bench-"));
  const programs = new PinnedPrograms(directory);
  try {
    if (!programs.compile("latency_client")) return console.log("  no C compiler: no accesses over sockets");
    const cpu = allowedCpus().at(-1) ?? 0;
    const kinds = ["engine", "raw", "fenced"];
    const sockets = kinds.map((kind) => programs.socket(kind));
    for (const [i, kind] of kinds.entries()) {
      await programs.startScript(cpu, "gpu_server", [kind, sockets[i] ?? ""], sockets[i] ?? "");
    }
    await programs.measure(cpu, "register", 10, 5000, sockets);
    await sleep(500);
    await compareOverSockets(programs, cpu, kinds, sockets);
  } finally {
    programs.stopAll();
    rmSync(directory, { recursive: true });
  }
}

async function compareOverSockets(
  programs: PinnedPrograms,
  cpu: number,
  kinds: readonly string[],
  sockets: readonly string[],
): Promise<void> {
  console.log("  4-byte read over a socket, one CPU, beside the copy engine of examples/");
  const rounds: Latency[][] = [];
  for (let round = 0; round < ROUNDS; round++) rounds.push(await programs.measure(cpu, "register", 20, 300, sockets));
  for (const [i, kind] of kinds.entries()) {
    const ratio = median(rounds.map((latencies) => (latencies[i]?.p50 ?? 0) / (latencies[0]?.p50 ?? 0)));
    const first = rounds[0]?.[i];
    if (first === undefined) throw new Error("the client printed nothing");
    console.log(`    ${kind.padEnd(8)} ${latencyText(first)}${i === 0 ? "" : `  p50 ratio ${ratio.toFixed(2)}`}`);
  }
}

/** Milliseconds of CPU, of all of this process's threads. */
function cpuTime(action: () => void): number {
  const before = process.cpuUsage();
  action();
  return cpuSince(before);
}

function cpuSince(before: NodeJS.CpuUsage): number {
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** Milliseconds. */
async function wallTime(action: () => Promise<void>): Promise<number> {
  const start = performance.now();
  await action();
  return performance.now() - start;
}
