import { type Device, device, type Slot } from "./topology.js";

/** A topology below one slot of the first root bus, and what Linux makes of it. */
export interface NamedTopology {
  name: string;
  slot: Slot;
  /** IOMMU groups that its functions are in, by the kernel's rules read by hand: it is what its name says. */
  groups: number;
  /** Virtual functions to be switched on of each of its functions that can. */
  virtualFunctions?: number;
}

/** PCIe endpoints without ACS; `edu` and `pci-testdev` have no PCIe capability, and `pci-testdev` has none at all. */
const xhci = device("qemu-xhci");
const nvme = device("nvme");
const edu = device("edu");
const testdev = device("pci-testdev");

/** With ACS; without, as old ones are. */
const rootPort = (...below: Slot[]) => device("pcie-root-port", ...below);
const oldRootPort = (...below: Slot[]) => device("ioh3420", ...below);
/** QEMU's switch has no ACS in any port. */
const upstream = (...below: Slot[]) => device("x3130-upstream", ...below);
const downstream = (...below: Slot[]) => device("xio3130-downstream", ...below);
const toPci = (...below: Slot[]) => device("pcie-pci-bridge", ...below);
const pciBridge = (...below: Slot[]) => device("pci-bridge", ...below);
/** A switch each of whose downstream ports has a slot of its own, with one device below. */
const switchOver = (...devices: Device[]) => upstream(...devices.map((one) => [downstream([one])]));

export const NAMED_TOPOLOGIES: readonly NamedTopology[] = [
  { name: "a root port with ACS, an endpoint below", slot: [rootPort([xhci])], groups: 2 },
  { name: "a root port with an empty slot", slot: [rootPort()], groups: 1 },
  { name: "a root port with ACS, several functions below", slot: [rootPort([xhci, nvme, edu])], groups: 2 },
  { name: "a root port without ACS, several functions below", slot: [oldRootPort([xhci, xhci])], groups: 1 },
  {
    name: "root ports with ACS as functions of one slot",
    slot: [rootPort([xhci]), rootPort([edu]), rootPort()],
    groups: 5,
  },
  {
    name: "root ports without ACS as functions of one slot",
    slot: [oldRootPort([xhci]), oldRootPort([edu])],
    groups: 1,
  },
  {
    name: "root ports of one slot, one of three with ACS",
    slot: [rootPort([xhci]), oldRootPort([edu]), oldRootPort()],
    groups: 3,
  },
  { name: "a switch, each port in a slot of its own", slot: [rootPort([switchOver(xhci, edu)])], groups: 4 },
  {
    name: "a switch whose ports are functions of one slot",
    slot: [rootPort([upstream([downstream([xhci]), downstream([nvme])])])],
    groups: 3,
  },
  {
    name: "a switch with both kinds of ports",
    slot: [rootPort([upstream([downstream([xhci]), downstream()], [downstream([edu])])])],
    groups: 4,
  },
  { name: "a switch below a root port without ACS", slot: [oldRootPort([switchOver(xhci, nvme)])], groups: 1 },
  {
    name: "a switch whose upstream port calls itself multi-function",
    slot: [rootPort([{ ...switchOver(xhci, nvme), model: "x3130-upstream,multifunction=on" }])],
    groups: 2,
  },
  {
    name: "nested switches",
    slot: [rootPort([upstream([downstream([switchOver(xhci)])], [downstream([edu])])])],
    groups: 4,
  },
  {
    name: "a bridge to conventional PCI below a root port, siblings behind it",
    slot: [rootPort([toPci([edu], [testdev], [edu])])],
    groups: 2,
  },
  {
    name: "two levels of bridges with functions behind each",
    slot: [rootPort([toPci([edu], [pciBridge([testdev])], [pciBridge([edu, testdev])])])],
    groups: 2,
  },
  {
    name: "a bridge to conventional PCI below a switch, beside an endpoint",
    slot: [rootPort([switchOver(toPci([edu]), xhci)])],
    groups: 4,
  },
  {
    name: "a bridge to conventional PCI on the root bus",
    slot: [device("i82801b11-bridge", [edu], [pciBridge([testdev], [edu])])],
    groups: 1,
  },
  {
    name: "a PCI bridge without any capability on the root bus",
    slot: [device("pci-bridge,msi=off,shpc=off", [edu], [edu])],
    groups: 1,
  },
  { name: "an integrated endpoint", slot: [xhci], groups: 1 },
  { name: "integrated endpoints that are functions of one device", slot: [xhci, nvme, xhci], groups: 1 },
  { name: "functions without a PCIe capability on the root bus", slot: [edu, testdev], groups: 1 },
  {
    name: "a root port without ACS beside an integrated endpoint, functions of one device",
    slot: [oldRootPort([edu]), xhci],
    groups: 1,
  },
  {
    name: "a second root bus with two root ports",
    slot: [device("pxb-pcie", [rootPort([nvme])], [rootPort([edu])])],
    groups: 5,
  },
  {
    name: "virtual functions below a root port with ACS",
    slot: [rootPort([device("igb")])],
    virtualFunctions: 3,
    groups: 5,
  },
  {
    name: "virtual functions below a root port without ACS",
    slot: [oldRootPort([device("igb")])],
    virtualFunctions: 2,
    groups: 1,
  },
];
