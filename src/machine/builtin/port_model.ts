import { ISOLATION } from "../../pci/acs.js";
import type { ExpressType } from "../../pci/function.js";
import type { CapabilityPlace } from "./capability_place.js";

/** The PCI bridges that the built-in boards use. */
export type PortModel =
  | "phb3-root"
  | "phb4-root"
  | "broadwell-root"
  | "skylake-root"
  | "rome-root"
  | "pex8725-up"
  | "pex8725-down"
  | "pex8764-up"
  | "pex8764-down"
  | "pex9797-up"
  | "pex9797-down";

/** Identity and capabilities of a bridge. */
export interface PortFacts {
  vendorId: number;
  deviceId: number;
  name: string;
  type: ExpressType;
  multifunction: boolean;
  capabilities: readonly CapabilityPlace[];
  /** ACS bits the port has; absent without the capability. Those that isolation wants are on, as Linux leaves them. */
  acs?: number;
}

const PHB_ROOT: readonly CapabilityPlace[] = [
  [0x40, 0x01],
  [0x48, 0x10],
  [0x100, "extended", 0x01],
  [0x148, "extended", 0x19],
];

const INTEL_ROOT: readonly CapabilityPlace[] = [
  [0x40, 0x0d],
  [0x60, 0x05],
  [0x90, 0x10],
  [0xe0, 0x01],
  [0x110, "extended", 0x0d],
  [0x148, "extended", 0x01],
  [0x250, "extended", 0x19],
];

const AMD_ROOT: readonly CapabilityPlace[] = [
  [0x50, 0x01],
  [0x58, 0x10],
  [0xa0, 0x05],
  [0xc0, 0x0d],
  [0x150, "extended", 0x01],
  [0x270, "extended", 0x19],
  [0x2a0, "extended", 0x0d],
];

const PEX_UP: readonly CapabilityPlace[] = [
  [0x40, 0x01],
  [0x48, 0x05],
  [0x68, 0x10],
  [0xa4, 0x0d],
  [0x100, "extended", 0x03],
  [0xfb4, "extended", 0x01],
  [0x10c, "extended", 0x19],
];

const PEX_DOWN: readonly CapabilityPlace[] = [...PEX_UP, [0xf24, "extended", 0x0d]];

const INTEL_ACS = 0x1f;
const AMD_ACS = 0x5f;
const PEX_ACS = 0x7f;

export const PORT_FACTS: Readonly<Record<PortModel, PortFacts>> = {
  "phb3-root": root(0x1014, 0x03dc, "IBM POWER8 Host Bridge (PHB3)", PHB_ROOT),
  "phb4-root": root(0x1014, 0x04c1, "IBM POWER9 Host Bridge (PHB4)", PHB_ROOT),
  "broadwell-root": root(0x8086, 0x6f04, "Intel Xeon E5 v4 PCI Express Root Port 2", INTEL_ROOT, INTEL_ACS),
  "skylake-root": root(0x8086, 0x2030, "Intel Sky Lake-E PCI Express Root Port A", INTEL_ROOT, INTEL_ACS),
  // Function 1 of a device whose function 0 is a host bridge without registers of interest.
  "rome-root": { ...root(0x1022, 0x1483, "AMD Starship/Matisse GPP Bridge", AMD_ROOT, AMD_ACS), multifunction: true },
  "pex8725-up": upstream(0x8725, "PLX PEX 8725"),
  "pex8725-down": downstream(0x8725, "PLX PEX 8725"),
  "pex8764-up": upstream(0x8764, "PLX PEX 8764"),
  "pex8764-down": downstream(0x8764, "PLX PEX 8764"),
  "pex9797-up": upstream(0x9797, "PLX PEX 9797"),
  "pex9797-down": downstream(0x9797, "PLX PEX 9797"),
};

/** What of a port's ACS is on: all that isolation wants (Linux `pci_std_enable_acs`). */
export const ENABLED_ACS = ISOLATION;

function root(
  vendorId: number,
  deviceId: number,
  name: string,
  capabilities: readonly CapabilityPlace[],
  acs?: number,
): PortFacts {
  const facts: PortFacts = { vendorId, deviceId, name, type: "root-port", multifunction: false, capabilities };
  return acs === undefined ? facts : { ...facts, acs };
}

function upstream(deviceId: number, name: string): PortFacts {
  return { vendorId: 0x10b5, deviceId, name, type: "upstream-port", multifunction: false, capabilities: PEX_UP };
}

function downstream(deviceId: number, name: string): PortFacts {
  const type = "downstream-port";
  return { vendorId: 0x10b5, deviceId, name, type, multifunction: false, capabilities: PEX_DOWN, acs: PEX_ACS };
}
