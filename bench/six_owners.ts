import { Fences } from "../src/fence/fences.js";
import type { GpuPort } from "../src/fence/gpu_port.js";
import { makePlan } from "../src/isolation/plan.js";
import { builtinMachine } from "../src/machine/builtin.js";
import type { PciAddress } from "../src/pci/address.js";
import { VirtualMachine } from "../src/virtual/virtual_machine.js";

/** How long resets take: no time, or the 102 ms that PCIe asks for. */
export type ResetTime = "at once" | "as on a bus";

/** A virtual Sequoia whose six GPUs belong to six owners, so that each of its links between GPUs is to be cut. */
export function sixOwners(resetTime: ResetTime): { virtual: VirtualMachine; fences: Fences; addresses: PciAddress[] } {
  const machine = builtinMachine("sequoia");
  const virtual = new VirtualMachine(machine);
  const addresses = machine.gpus.map(({ address }) => address);
  const assignments = machine.gpus.map(({ name, address }) => ({ name: `vm-${name}`, members: [address] }));
  const port = (address: PciAddress): GpuPort => {
    const atOnce = virtual.port(address);
    if (resetTime === "at once") return atOnce;
    return { ...atOnce, secondaryBusReset: () => virtual.resetSteps(address, "port") };
  };
  return { virtual, fences: new Fences(makePlan(machine, assignments, { resetAll: true }), port), addresses };
}
