/** A PCI function as QEMU makes it. */
export interface Device {
  /** Name of QEMU's device, with properties of its own behind commas. */
  model: string;
  /** What is on the bus below it, if it is a bridge. */
  below: readonly Slot[];
}

/** The functions of one device number, from function 0 on; none: an empty slot. */
export type Slot = readonly Device[];

/** Models below which there is conventional PCI; their hot plug controller takes slot 0. */
const CONVENTIONAL = ["pcie-pci-bridge", "pci-bridge", "i82801b11-bridge"];
/** Ports that want a chassis and a slot number, no two ports the same. */
const PORTS = ["pcie-root-port", "ioh3420", "xio3130-downstream"];
/** A root bus of its own. Bus numbers from this one on are left to these. */
const ROOT_BUS = "pxb-pcie";
const FIRST_ROOT_BUS = 0xa0;
/** Bus numbers for the bridges below each such root bus. */
const BUSES_BELOW = 0x10;

export function device(model: string, ...below: Slot[]): Device {
  return { model, below };
}

/** Turns topologies into QEMU's arguments, with names and numbers that are used once in a machine. */
export class QemuDevices {
  readonly args: string[] = [];
  #ids = 0;
  #nextRootBus = FIRST_ROOT_BUS;

  /**
   * Adds the functions of one slot of a bus.
   * @param bus QEMU's name of the bus
   * @param number 0..31
   * @returns the numbers of the root buses it begins, in order
   */
  add(slot: Slot, bus: string, number: number): number[] {
    const rootBuses: number[] = [];
    for (const [index, { model, below }] of slot.entries()) {
      const id = `p${++this.#ids}`;
      const properties = [model, `id=${id}`, `bus=${bus}`, `addr=${number.toString(16)}.${index}`];
      const name = modelName(model);
      if (index === 0 && slot.length > 1) properties.push("multifunction=on");
      if (PORTS.includes(name)) properties.push(`chassis=${this.#ids}`, "slot=0");
      if (name === "pcie-root-port") properties.push("io-reserve=0");
      if (name === "pci-bridge") properties.push(`chassis_nr=${this.#ids & 0xff}`);
      if (name === "nvme") properties.push(`serial=${id}`);
      if (name === ROOT_BUS) {
        rootBuses.push(this.#nextRootBus);
        properties.push(`bus_nr=${this.#nextRootBus}`);
        this.#nextRootBus += BUSES_BELOW;
      }
      this.args.push("-device", properties.join(","));
      const first = CONVENTIONAL.includes(name) ? 1 : 0;
      for (const [place, functions] of below.entries()) rootBuses.push(...this.add(functions, id, first + place));
    }
    return rootBuses;
  }
}

/** How many functions a slot has, those below its bridges among them. */
export function functionsOf(slot: Slot): number {
  return slot.reduce((sum, { below }) => sum + 1 + below.reduce((inner, next) => inner + functionsOf(next), 0), 0);
}

function modelName(model: string): string {
  return model.split(",")[0] ?? model;
}
