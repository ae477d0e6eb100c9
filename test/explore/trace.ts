import type { Machine } from "../../src/machine/machine.js";
import type { PciAddress } from "../../src/pci/address.js";
import type { Access, Fault } from "./fault.js";
import type { Step } from "./step.js";
import { type Scenario, World } from "./world.js";

const FAULTS: Record<Fault, string> = {
  "all ones": "is answered by nobody (all ones)",
  "0xBADF": "is answered by an error (0xbadf1100), and so is that register from then on",
  lost: "is lost",
  "outside reset": "comes just after somebody else has reset that GPU",
  kill: "never comes: the server is killed just before",
};

/** A way through a scenario as a person reads it: what happens, what the fences say meanwhile, and what is left. */
export function* traceLines(scenario: Scenario, path: readonly Step[]): Generator<string> {
  const world = new World(scenario);
  const name = (gpu: PciAddress) => nameOf(scenario.machine, gpu);
  const plain = (text: string) =>
    scenario.machine.gpus.reduce((all, { address, name: of }) => all.replaceAll(address, of), text);
  for (const [index, step] of path.entries()) {
    const accesses = world.take(step);
    yield `${String(index + 1).padStart(3)}. ${plain(inWords(step, scenario, name))}`;
    for (const line of world.told.at(-1) ?? []) yield `       ${line}`;
    if (step.deviation !== undefined) yield `       but ${deviationInWords(step, accesses, name)}`;
  }
  for (const finding of world.judge.findings) yield `  !! ${plain(finding)}`;
  for (const gpu of scenario.machine.gpus) {
    const { touchedBy } = world.hardware.of(gpu.address);
    const cut = [...world.hardware.cutAt(gpu.address)].join(", ");
    const reached = touchedBy === undefined ? "nobody touches it" : `${touchedBy} may touch it`;
    yield `     ${gpu.name}: ${reached}, ${cut === "" ? "no link is cut" : `cut: ${cut}`}`;
  }
}

function inWords(step: Step, { assignments }: Scenario, name: (gpu: PciAddress) => string): string {
  switch (step.kind) {
    case "restart":
      return "the server starts";
    case "connect":
      return `a client connects to ${name(step.gpu)}`;
    case "ask reset":
      return `the client of ${name(step.gpu)} asks for a reset`;
    case "die":
      return `the client of ${name(step.gpu)} dies`;
    case "touch":
      return `the client of ${name(step.gpu)} ${step.touch}`;
    case "reset ends":
      return `the reset of ${name(step.gpu)} ${step.fails ? "fails at its end" : "ends"}`;
    case "go on":
      return `the server goes on with ${step.name}`;
    case "time out":
      return `the server gives up ${step.name}: it takes too long`;
    case "outside reset":
      return `somebody else resets ${name(step.gpu)}`;
    case "look":
      return `the server looks after ${name(step.gpu)}`;
    case "assign": {
      const owners = assignments[step.to] ?? [];
      return `assignments become ${owners.map((owner) => `${owner.name}=${owner.members.map(name).join(",")}`).join(" ")}`;
    }
    case "kill":
      return `the server is killed${step.bus ? ", and the kernel resets what it had open" : ""}`;
  }
}

function deviationInWords({ deviation }: Step, accesses: readonly Access[], name: (gpu: PciAddress) => string): string {
  if (deviation === undefined) return "";
  const access = accesses[deviation.at];
  const what = access === undefined ? `access ${deviation.at}` : `the ${access.kind} of ${name(access.gpu)}`;
  const where = access === undefined || access.offset === 0 ? "" : ` at 0x${access.offset.toString(16)}`;
  return `${what}${where} ${FAULTS[deviation.fault]}`;
}

function nameOf(machine: Machine, gpu: PciAddress): string {
  return machine.gpus.find(({ address }) => address === gpu)?.name ?? gpu;
}
