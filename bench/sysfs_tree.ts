import { closeSync, mkdirSync, openSync, symlinkSync, writeSync } from "node:fs";
import { dirname, join, relative } from "node:path";

/** What one made-up function is; everything sysfs shows of it follows from this. */
interface Kind {
  ids: readonly [vendor: number, device: number, subsystemVendor: number, subsystem: number];
  classCode: number;
  /** Device/Port Type of the PCI Express capability; absent on a conventional function, whose config has 256 bytes. */
  express?: number;
  /** Sizes of memory BARs by index; 64-bit ones are marked. */
  bars: readonly { index: number; size: bigint; wide: boolean }[];
  acs: boolean;
  driver?: string;
}

const BRIDGE = { classCode: 0x060400, bars: [], acs: true, driver: "pcieport" } as const;
const ROOT_PORT: Kind = { ...BRIDGE, ids: [0x8086, 0x347a, 0x8086, 0x0000], express: 4 };
const UPSTREAM: Kind = { ...BRIDGE, ids: [0x10b5, 0x8725, 0x10b5, 0x8725], express: 5, acs: false };
const DOWNSTREAM: Kind = { ...BRIDGE, ids: [0x10b5, 0x8725, 0x10b5, 0x8725], express: 6 };
const GPU: Kind = {
  ids: [0x10de, 0x1db1, 0x10de, 0x1212],
  classCode: 0x030200,
  express: 0,
  bars: [
    { index: 0, size: 0x1000000n, wide: false },
    { index: 1, size: 0x400000000n, wide: true },
    { index: 3, size: 0x2000000n, wide: true },
  ],
  acs: false,
  driver: "vfio-pci",
};
const NETWORK: Kind = {
  ids: [0x15b3, 0x1017, 0x15b3, 0x0006],
  classCode: 0x020000,
  express: 0,
  bars: [{ index: 0, size: 0x2000000n, wide: true }],
  acs: false,
  driver: "mlx5_core",
};
const STORAGE: Kind = {
  ids: [0x144d, 0xa808, 0x144d, 0xa801],
  classCode: 0x010802,
  express: 0,
  bars: [{ index: 0, size: 0x4000n, wide: true }],
  acs: false,
  driver: "nvme",
};
const SERIAL: Kind = {
  ids: [0x1415, 0x950a, 0x1415, 0x0000],
  classCode: 0x070002,
  bars: [{ index: 0, size: 0x1000n, wide: false }],
  acs: false,
};

/** Below each of a switch's eight downstream ports: the functions of one device. */
const BEHIND_SWITCH: readonly (readonly Kind[])[] = [
  [GPU],
  [NETWORK, NETWORK],
  [GPU],
  [STORAGE],
  [GPU],
  [NETWORK, NETWORK],
  [GPU],
  [SERIAL, SERIAL, SERIAL, SERIAL],
];
const PORTS_PER_DOMAIN = 20;

/**
 * Makes up what Linux shows of a machine with `count` PCI functions below `root`: domains of twenty root ports, a switch
 * with eight downstream ports below each, and a device below every one of those; devices as real directories under
 * `sys/devices`, links to them under `sys/bus/pci/devices`, drivers, and one IOMMU group per function.
 */
export function makeSysfsTree(root: string, count: number): void {
  const tree = new TreeWriter(root);
  for (let domain = 0; tree.functions < count; domain++) {
    for (let port = 0, bus = 1; port < PORTS_PER_DOMAIN && tree.functions < count; port++, bus += 10) {
      const host = `sys/devices/pci${hex(domain, 4)}:00`;
      const rootPort = tree.add(host, domain, 0, port, 0, ROOT_PORT, [0, bus, bus + 9], false);
      if (tree.functions >= count) return;
      const upstream = tree.add(rootPort, domain, bus, 0, 0, UPSTREAM, [bus, bus + 1, bus + 9], false);
      BEHIND_SWITCH.forEach((kinds, index) => {
        if (tree.functions >= count) return;
        const below = bus + 2 + index;
        const down = tree.add(upstream, domain, bus + 1, index, 0, DOWNSTREAM, [bus + 1, below, below], false);
        kinds.forEach((kind, fn) => {
          if (tree.functions < count) tree.add(down, domain, below, 0, fn, kind, undefined, kinds.length > 1);
        });
      });
    }
  }
}

class TreeWriter {
  functions = 0;
  private nextWide = 0x4000_0000_0000n;
  private nextNarrow = 0x8000_0000n;

  constructor(private readonly root: string) {
    for (const folder of ["sys/bus/pci/devices", "sys/bus/pci/slots", "sys/kernel/iommu_groups", "sys/firmware/acpi"]) {
      mkdirSync(join(root, folder), { recursive: true });
    }
    for (const driver of ["pcieport", "vfio-pci", "mlx5_core", "nvme"]) {
      mkdirSync(join(root, "sys/bus/pci/drivers", driver), { recursive: true });
    }
    mkdirSync(join(root, "proc/sys/kernel"), { recursive: true });
    this.write("proc/sys/kernel/osrelease", "6.1.0\n");
    this.write("proc/cmdline", "root=/dev/sda1 intel_iommu=on\n");
  }

  /** Adds one function below the folder `above` and returns its own folder. */
  add(
    above: string,
    domain: number,
    bus: number,
    device: number,
    fn: number,
    kind: Kind,
    buses: readonly [number, number, number] | undefined,
    multifunction: boolean,
  ): string {
    const address = `${hex(domain, 4)}:${hex(bus, 2)}:${hex(device, 2)}.${fn}`;
    const folder = `${above}/${address}`;
    mkdirSync(join(this.root, folder), { recursive: true });
    const addresses = kind.bars.map((bar) => this.place(bar.size, bar.wide));
    this.write(`${folder}/config`, configSpace(kind, addresses, buses, multifunction));
    this.write(`${folder}/resource`, resourceText(kind, addresses));
    const [vendor, id, subsystemVendor, subsystem] = kind.ids;
    const texts = { vendor, device: id, subsystem_vendor: subsystemVendor, subsystem_device: subsystem, revision: 1 };
    for (const [name, value] of Object.entries(texts)) this.write(`${folder}/${name}`, `0x${hex(value, 4)}\n`);
    this.write(`${folder}/class`, `0x${hex(kind.classCode, 6)}\n`);
    this.write(`${folder}/irq`, `${16 + (this.functions % 200)}\n`);
    this.write(`${folder}/numa_node`, `${domain % 2}\n`);
    if (kind.driver !== undefined) this.link(`${folder}/driver`, `sys/bus/pci/drivers/${kind.driver}`);
    const group = `sys/kernel/iommu_groups/${this.functions}`;
    mkdirSync(join(this.root, group, "devices"), { recursive: true });
    this.link(`${folder}/iommu_group`, group);
    this.link(`${group}/devices/${address}`, folder);
    this.link(`sys/bus/pci/devices/${address}`, folder);
    this.functions++;
    return folder;
  }

  /** An address aligned to its size; those of 32-bit BARs wrap round below 4 GiB. */
  private place(size: bigint, wide: boolean): bigint {
    const next = wide ? this.nextWide : this.nextNarrow % 0x1_0000_0000n || 0x8000_0000n;
    const address = (next + size - 1n) & ~(size - 1n);
    if (wide) this.nextWide = address + size;
    else this.nextNarrow = address + size;
    return address;
  }

  private write(path: string, content: string | Buffer): void {
    const file = openSync(join(this.root, path), "w");
    if (typeof content === "string") writeSync(file, content);
    else writeSync(file, content);
    closeSync(file);
  }

  private link(path: string, target: string): void {
    symlinkSync(relative(dirname(path), target), join(this.root, path));
  }
}

function configSpace(
  kind: Kind,
  addresses: readonly bigint[],
  buses: readonly [number, number, number] | undefined,
  multifunction: boolean,
): Buffer {
  const config = Buffer.alloc(kind.express === undefined ? 256 : 4096);
  const [vendor, device, subsystemVendor, subsystem] = kind.ids;
  config.writeUInt16LE(vendor, 0x00);
  config.writeUInt16LE(device, 0x02);
  config.writeUInt16LE(0x0406, 0x04); // command: memory, bus master, INTx off
  config.writeUInt16LE(0x0010, 0x06); // status: capability list
  config.writeUInt32LE(((kind.classCode << 8) | 1) >>> 0, 0x08);
  config[0x0e] = (buses === undefined ? 0 : 1) | (multifunction ? 0x80 : 0);
  kind.bars.forEach(({ index, wide }, i) => {
    const address = addresses[i] ?? 0n;
    config.writeUInt32LE(Number(address & 0xffff_fff0n) + (wide ? 0xc : 0), 0x10 + 4 * index);
    if (wide) config.writeUInt32LE(Number(address >> 32n), 0x14 + 4 * index);
  });
  if (buses !== undefined) {
    config.set(buses, 0x18);
    config.set([0x0d, 0x60], 0x40); // a bridge has its subsystem ids in a capability
  }
  const ids = buses === undefined ? 0x2c : 0x44;
  config.writeUInt16LE(subsystemVendor, ids);
  config.writeUInt16LE(subsystem, ids + 2);
  config[0x34] = buses === undefined ? 0x60 : 0x40;
  config.set([0x01, kind.express === undefined ? 0x00 : 0x68, 0x03, 0x00], 0x60); // power management
  if (kind.express === undefined) return config;
  config.set([0x05, 0x78, 0x80, 0x00], 0x68); // MSI
  config.set([0x10, 0x00], 0x78); // PCI Express
  config.writeUInt16LE(2 | (kind.express << 4), 0x7a);
  const extended: readonly (readonly [offset: number, id: number])[] = [
    [0x100, 0x0001],
    [0x148, 0x0003],
    [0x158, 0x0019],
    [0x180, 0x000b],
    ...(kind.acs ? ([[0x220, 0x000d]] as const) : []),
  ];
  extended.forEach(([offset, id], i) => {
    const next = extended[i + 1]?.[0] ?? 0;
    config.writeUInt32LE((id | (1 << 16) | (next << 20)) >>> 0, offset);
  });
  if (kind.acs) config.writeUInt32LE(0x001d001f, 0x224);
  return config;
}

function resourceText(kind: Kind, addresses: readonly bigint[]): string {
  const lines = Array.from({ length: 13 }, () => "0x0000000000000000 0x0000000000000000 0x0000000000000000");
  kind.bars.forEach(({ index, size, wide }, i) => {
    const start = addresses[i] ?? 0n;
    const flags = wide ? 0x14220cn : 0x40200n;
    lines[index] = [start, start + size - 1n, flags]
      .map((value) => `0x${value.toString(16).padStart(16, "0")}`)
      .join(" ");
  });
  return `${lines.join("\n")}\n`;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, "0");
}
