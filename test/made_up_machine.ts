import type { FarEnd, Gpu, Link, Machine, Part } from "../src/machine/machine.js";
import { LINK_DISABLE, NV_PMC_ENABLE } from "../src/machine/part.js";
import type { Acs, ExpressType, PciFunction } from "../src/pci/function.js";

/** An endpoint or a port for made-up machines; PCIe endpoint unless told otherwise. */
export function made(address: string, more: Partial<PciFunction> & { type?: ExpressType | null } = {}): PciFunction {
  const { type = "endpoint", ...rest } = more;
  return {
    address,
    bars: [],
    capabilities: [],
    ...(type !== null && { express: { type, slotImplemented: false, functionLevelReset: false } }),
    ...rest,
  };
}

/** A PCIe port with the buses below it; ACS as isolation wants it unless given. */
export function port(
  address: string,
  type: ExpressType | null,
  secondary: number,
  acs: Acs | undefined = { supported: 0x1d, enabled: 0x1d },
): PciFunction {
  const buses = { primary: 0, secondary, subordinate: 0xff };
  return made(address, { type, headerType: 1, buses, ...(acs !== undefined && { acs }) });
}

/** A port without an ACS capability. */
export function portWithoutAcs(address: string, type: ExpressType | null, secondary: number): PciFunction {
  const { acs: _, ...bare } = port(address, type, secondary);
  return bare;
}

/** A GPU with links to the far ends given, link 0 first. */
export function gpu(address: string, name: string, far: readonly FarEnd[], part: Part = "GV100"): Gpu {
  const links = far.map((end, number): Link => ({ number, far: end, state: "up", origin: "wiring" }));
  return { address, name, part, nvlink: "present", links, bridges: [], origin: "wiring" };
}

/** Far end: another GPU's link. */
export function to(address: string, link?: number): FarEnd {
  return { kind: "gpu", gpu: address, ...(link !== undefined && { link }) };
}

/** A PC with these GPUs (functions are made for them) and whatever else is given. */
export function machineOf(gpus: readonly Gpu[], more: Partial<Machine> = {}): Machine {
  return {
    name: "made-up",
    virtual: true,
    platform: "pc",
    source: "a test",
    functions: gpus.map((one) => made(one.address, { parent: null, vendorId: 0x10de, classCode: 0x030200 })),
    gpus: [...gpus],
    bridges: [],
    memory: [],
    unknown: [],
    ...more,
  };
}

/** The GPU with registers read back that hold this disable mask. */
export function withMask(one: Gpu, mask: number): Gpu {
  const registers = [
    { offset: NV_PMC_ENABLE, value: 0x02000000 },
    { offset: LINK_DISABLE, value: mask },
  ];
  return { ...one, links: one.links.map((link) => ({ ...link, evidence: { registers } })) };
}
