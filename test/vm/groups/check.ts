/**
 * Are our groups the kernel's? Machines with many PCIe topologies side by side; in each `linkfence ... --live` is held
 * against /sys/kernel/iommu_groups, and the capture that it makes against what was said there.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { guestFiles, ROOT } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { runCommand } from "../run_command.js";
import { VirtualMachine, type VmOptions } from "../virtual_machine.js";
import { assertSameSets, functionsAt, type GuestFindings, hex, readFindings, setsWith } from "./guest_findings.js";
import { NAMED_TOPOLOGIES, type NamedTopology } from "./named_topologies.js";
import { randomTopologies } from "./random_topologies.js";
import { functionsOf, QemuDevices } from "./topology.js";

/** Seconds for each machine; alone on two processors they take a third of that. */
const BUDGET = 110;
/** Slots of the root bus for topologies. QEMU puts the AMD IOMMU's own function into the first free one, 1. */
const FIRST_SLOT = 2;
const LAST_SLOT = 0x1d;

/** Nobody has worked out the groups of a random one by hand. */
type Topology = Omit<NamedTopology, "groups"> & { groups?: number };

const READ = ["virtual functions are switched on", "the kernel's groups are read"];
const COMMANDS = ["groups --live", "audit --live", "capture --live"];

class GroupsCheck {
  constructor(private readonly context: CheckContext) {}

  /** One machine, with all topologies side by side. */
  async machine(name: string, topologies: readonly Topology[], options: Partial<VmOptions>): Promise<void> {
    const { report } = this.context;
    assert.ok(topologies.length <= LAST_SLOT - FIRST_SLOT + 1, "more topologies than slots");
    const devices = new QemuDevices();
    const rootBuses = topologies.map(({ slot }, index) => devices.add(slot, "pcie.0", FIRST_SLOT + index));
    const guest = new VirtualMachine(this.context.parts, {
      job: "node /linkfence/guest/groups/groups_guest.mjs",
      env: { VIRTUAL_FUNCTIONS: virtualFunctions(topologies) },
      files: guestFiles({ groups: "groups" }),
      node: true,
      timeoutS: BUDGET,
      ...options,
      devices: [...devices.args, ...(options.devices ?? [])],
    });
    await report.scenario(name, BUDGET, [guest], async () => {
      const end = await guest.ended;
      report.addResults(name, guest.results, [...READ, ...COMMANDS]);
      assert.equal(end.status, 0, end.reason);
      const findings = readFindings(guest.results.get("findings") ?? "");
      await this.#whole(name, findings);
      for (const [index, topology] of topologies.entries()) {
        const members = functionsAt(findings, FIRST_SLOT + index, rootBuses[index] ?? []);
        await report.run(`${name}: ${topology.name}`, () => checkTopology(topology, members, findings));
      }
    });
  }

  /** What is said of the machine as a whole. */
  async #whole(name: string, { kernel, groups, audit, capture }: GuestFindings): Promise<void> {
    const { report, folder } = this.context;
    await report.run(`${name}: "kernel" is what /sys/kernel/iommu_groups says`, () => {
      assertSameSets(groups.kernel, kernel);
      return undefined;
    });
    await report.run(`${name}: "computed" is the same, group by group`, () => {
      const grouped = kernel.flat();
      assertSameSets(setsWith(groups.computed, grouped), kernel);
      assert.deepEqual(groups.notes, []);
      return `${kernel.length} groups of ${grouped.length} functions`;
    });
    await report.run(`${name}: audit finds nothing and lacks nothing`, () => {
      assert.deepEqual([audit.findings, audit.unknown, audit.notes], [[], [], []]);
      return undefined;
    });
    await report.run(`${name}: groups and audit say the same of the capture`, async () => {
      const file = join(folder, "capture.json");
      writeFileSync(file, capture);
      assert.deepEqual(await linkfence("groups", "--capture", file), groups);
      assert.deepEqual(await linkfence("audit", "--capture", file), audit);
      return `${Math.ceil(capture.length / 1024)} KiB`;
    });
  }
}

function checkTopology({ slot, groups, virtualFunctions }: Topology, members: string[], found: GuestFindings): string {
  const made = functionsOf(slot) + (virtualFunctions ?? 0);
  assert.equal(members.length, made, `the kernel has ${members.length} of ${made} functions`);
  const kernels = setsWith(found.kernel, members);
  assertSameSets(setsWith(found.groups.computed, members), kernels);
  if (groups !== undefined) assert.equal(kernels.length, groups, "as many groups as worked out by hand");
  return `${made} functions, ${kernels.length} groups`;
}

function virtualFunctions(topologies: readonly Topology[]): string {
  return topologies
    .flatMap(({ virtualFunctions: count }, index) => (count ? [`${hex(FIRST_SLOT + index)}=${count}`] : []))
    .join(" ");
}

/** What a command that passes prints on this machine. */
async function linkfence(...args: string[]): Promise<unknown> {
  const output = await runCommand(process.execPath, [join(ROOT, "dist/cli/main.js"), ...args, "--json"]);
  return JSON.parse(output.toString("utf8"));
}

const INTEL = { intelIommu: "caching-mode=on" };
/** A machine with twice the functions takes much more than twice as long to start, so each topology is in one machine only. */
const MACHINES: readonly (readonly [string, Partial<VmOptions>])[] = [
  ["Intel's IOMMU", INTEL],
  ["AMD's IOMMU", { devices: ["-device", "amd-iommu,intremap=on"] }],
  ["Intel's IOMMU again", INTEL],
];
const RANDOM_TOPOLOGIES = 8;
/** Machines with random topologies; `LINKFENCE_VM_RANDOM_MACHINES` asks for more. */
const RANDOM_MACHINES = Number(process.env.LINKFENCE_VM_RANDOM_MACHINES ?? 1);

await runCheck(async (context) => {
  const check = new GroupsCheck(context);
  for (const [index, [name, options]] of MACHINES.entries()) {
    const some = NAMED_TOPOLOGIES.filter((_, place) => place % MACHINES.length === index);
    await check.machine(name, some, options);
  }
  assert.ok(RANDOM_MACHINES >= 1, "LINKFENCE_VM_RANDOM_MACHINES is a number from 1 on");
  const first = Number(process.env.LINKFENCE_VM_SEED ?? Math.floor(Math.random() * 2 ** 31));
  for (let seed = first; seed < first + RANDOM_MACHINES; seed++) {
    console.log(`        random topologies: LINKFENCE_VM_SEED=${seed}`);
    const random = randomTopologies(seed, RANDOM_TOPOLOGIES).map((slot, index) => ({ name: `random ${index}`, slot }));
    await check.machine("random topologies", random, INTEL);
  }
});
