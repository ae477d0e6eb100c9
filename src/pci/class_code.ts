/** Base classes with their subclasses, as the PCI id database behind `lspci` names them. */
const CLASSES: Readonly<Record<number, readonly [name: string, subclasses: Readonly<Record<number, string>>]>> = {
  0: [
    "Unclassified device",
    {
      0: "Non-VGA unclassified device",
      1: "VGA compatible unclassified device",
      5: "Image coprocessor",
    },
  ],
  1: [
    "Mass storage controller",
    {
      0: "SCSI storage controller",
      1: "IDE interface",
      2: "Floppy disk controller",
      3: "IPI bus controller",
      4: "RAID bus controller",
      5: "ATA controller",
      6: "SATA controller",
      7: "Serial Attached SCSI controller",
      8: "Non-Volatile memory controller",
      9: "Universal Flash Storage controller",
      128: "Mass storage controller",
    },
  ],
  2: [
    "Network controller",
    {
      0: "Ethernet controller",
      1: "Token ring network controller",
      2: "FDDI network controller",
      3: "ATM network controller",
      4: "ISDN controller",
      5: "WorldFip controller",
      6: "PICMG controller",
      7: "Infiniband controller",
      8: "Fabric controller",
      128: "Network controller",
    },
  ],
  3: [
    "Display controller",
    {
      0: "VGA compatible controller",
      1: "XGA compatible controller",
      2: "3D controller",
      128: "Display controller",
    },
  ],
  4: [
    "Multimedia controller",
    {
      0: "Multimedia video controller",
      1: "Multimedia audio controller",
      2: "Computer telephony device",
      3: "Audio device",
      128: "Multimedia controller",
    },
  ],
  5: ["Memory controller", { 0: "RAM memory", 1: "FLASH memory", 2: "CXL", 128: "Memory controller" }],
  6: [
    "Bridge",
    {
      0: "Host bridge",
      1: "ISA bridge",
      2: "EISA bridge",
      3: "MicroChannel bridge",
      4: "PCI bridge",
      5: "PCMCIA bridge",
      6: "NuBus bridge",
      7: "CardBus bridge",
      8: "RACEway bridge",
      9: "Semi-transparent PCI-to-PCI bridge",
      10: "InfiniBand to PCI host bridge",
      128: "Bridge",
    },
  ],
  7: [
    "Communication controller",
    {
      0: "Serial controller",
      1: "Parallel controller",
      2: "Multiport serial controller",
      3: "Modem",
      4: "GPIB controller",
      // Misspelt in the database, and so in every listing.
      5: "Smard Card controller",
      128: "Communication controller",
    },
  ],
  8: [
    "Generic system peripheral",
    {
      0: "PIC",
      1: "DMA controller",
      2: "Timer",
      3: "RTC",
      4: "PCI Hot-plug controller",
      5: "SD Host controller",
      6: "IOMMU",
      128: "System peripheral",
    },
  ],
  9: [
    "Input device controller",
    {
      0: "Keyboard controller",
      1: "Digitizer Pen",
      2: "Mouse controller",
      3: "Scanner controller",
      4: "Gameport controller",
      128: "Input device controller",
    },
  ],
  10: ["Docking station", { 0: "Generic Docking Station", 128: "Docking Station" }],
  11: ["Processor", { 0: "386", 1: "486", 2: "Pentium", 16: "Alpha", 32: "Power PC", 48: "MIPS", 64: "Co-processor" }],
  12: [
    "Serial bus controller",
    {
      0: "FireWire (IEEE 1394)",
      1: "ACCESS Bus",
      2: "SSA",
      3: "USB controller",
      4: "Fibre Channel",
      5: "SMBus",
      6: "InfiniBand",
      7: "IPMI Interface",
      8: "SERCOS interface",
      9: "CANBUS",
      128: "Serial bus controller",
    },
  ],
  13: [
    "Wireless controller",
    {
      0: "IRDA controller",
      1: "Consumer IR controller",
      16: "RF controller",
      17: "Bluetooth",
      18: "Broadband",
      32: "802.1a controller",
      33: "802.1b controller",
      128: "Wireless controller",
    },
  ],
  14: ["Intelligent controller", { 0: "I2O" }],
  15: [
    "Satellite communications controller",
    {
      1: "Satellite TV controller",
      2: "Satellite audio communication controller",
      3: "Satellite voice communication controller",
      4: "Satellite data communication controller",
    },
  ],
  16: [
    "Encryption controller",
    {
      0: "Network and computing encryption device",
      16: "Entertainment encryption device",
      128: "Encryption controller",
    },
  ],
  17: [
    "Signal processing controller",
    {
      0: "DPIO module",
      1: "Performance counters",
      16: "Communication synchronizer",
      32: "Signal processing management",
      128: "Signal processing controller",
    },
  ],
  18: [
    "Processing accelerators",
    { 0: "Processing accelerators", 1: "SNIA Smart Data Accelerator Interface (SDXI) controller" },
  ],
  19: ["Non-Essential Instrumentation", {}],
  64: ["Coprocessor", {}],
  255: ["Unassigned class", {}],
};

/**
 * What `lspci` prints for a class code (base class, subclass and programming interface, 24 bits): the subclass's name;
 * `Processor [0b50]` where only the base class is known; `Class [6000]` where nothing is.
 */
export function className(classCode: number): string {
  const base = (classCode >>> 16) & 0xff;
  const known = CLASSES[base];
  const number = ((classCode >>> 8) & 0xffff).toString(16).padStart(4, "0");
  return known?.[1][(classCode >>> 8) & 0xff] ?? `${known?.[0] ?? "Class"} [${number}]`;
}

/** The base class and subclass, 16 bits, that `lspci` prints this name for; undefined when it is no such name. */
export function classByName(name: string): number | undefined {
  return CLASS_BY_NAME.get(name);
}

const CLASS_BY_NAME: ReadonlyMap<string, number> = new Map(
  Object.entries(CLASSES).flatMap(([base, [, subclasses]]) =>
    Object.entries(subclasses).map(([sub, name]): [string, number] => [name, (Number(base) << 8) | Number(sub)]),
  ),
);
