import fc from "fast-check";
import { type Device, device, functionsOf, type Slot } from "./topology.js";

/** How many bridges may be below each other. */
const DEEPEST = 4;
/** Of one topology. */
const MOST_FUNCTIONS = 8;

const ENDPOINTS = ["qemu-xhci", "nvme", "edu", "pci-testdev", "qemu-xhci,multifunction=on"];
const ROOT_PORTS = ["pcie-root-port", "ioh3420", "pcie-root-port,multifunction=on"];
const UPSTREAM_PORTS = ["x3130-upstream", "x3130-upstream,multifunction=on"];

/** Device trees for one slot of the root bus each; the same ones for the same seed. */
export function randomTopologies(seed: number, count: number): Slot[] {
  const small = rootSlot.filter((slot) => functionsOf(slot) <= MOST_FUNCTIONS);
  return fc.sample(small, { seed, numRuns: count });
}

const endpoint = fc.constantFrom(...ENDPOINTS).map((model) => device(model));

function functions(one: fc.Arbitrary<Device>, most: number): fc.Arbitrary<Slot> {
  return fc.array(one, { minLength: 1, maxLength: most });
}

function slots(slot: fc.Arbitrary<Slot>, most: number): fc.Arbitrary<Slot[]> {
  return fc.array(slot, { maxLength: most });
}

function bridge(models: readonly string[], below: fc.Arbitrary<Slot[]>): fc.Arbitrary<Device> {
  return fc.tuple(fc.constantFrom(...models), below).map(([model, list]) => device(model, ...list));
}

/** What may be on a conventional bus. */
function conventional(depth: number): fc.Arbitrary<Slot> {
  const leaf = fc.constantFrom("edu", "pci-testdev").map((model) => device(model));
  if (depth === 0) return functions(leaf, 2);
  const further = bridge(["pci-bridge"], slots(conventional(depth - 1), 2));
  return functions(fc.oneof({ weight: 3, arbitrary: leaf }, { weight: 1, arbitrary: further }), 2);
}

/** What may be in the one slot below a port. */
function belowPort(depth: number): fc.Arbitrary<Slot> {
  const endpoints = functions(endpoint, 3);
  if (depth === 0) return endpoints;
  const toPci = bridge(["pcie-pci-bridge"], slots(conventional(depth - 1), 3)).map((one): Slot => [one]);
  const port = bridge(["xio3130-downstream"], slots(belowPort(depth - 1), 1));
  const switched = bridge(UPSTREAM_PORTS, slots(functions(port, 3), 3)).map((one): Slot => [one]);
  return fc.oneof({ weight: 2, arbitrary: endpoints }, toPci, { weight: 3, arbitrary: switched });
}

const rootPort = bridge(ROOT_PORTS, slots(belowPort(DEEPEST), 1));
const rootSlot = functions(
  fc.oneof(
    { weight: 6, arbitrary: rootPort },
    { weight: 1, arbitrary: endpoint },
    { weight: 1, arbitrary: bridge(["pci-bridge", "i82801b11-bridge"], slots(conventional(1), 2)) },
  ),
  3,
);
