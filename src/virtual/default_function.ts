import type { Gpu, Part } from "../machine/machine.js";
import { splitAddress } from "../pci/address.js";
import type { Bar, Capability, PciFunction } from "../pci/function.js";

const NVIDIA = 0x10de;
/** The SXM modules' device ids (pci.ids): P100 16GB, V100 16GB, A100 40GB. */
const DEVICE_IDS: Readonly<Record<Part, number>> = { GP100: 0x15f9, GV100: 0x1db1, GA100: 0x20b0, unknown: 0 };
/** Display controller, 3D. */
const CLASS_3D = 0x030200;

/** Where a V100 has its standard capabilities; P100 and A100 have the same ones there. */
const CAPABILITIES: readonly Capability[] = [
  { offset: 0x60, id: 0x01, extended: false, name: "Power Management" },
  { offset: 0x68, id: 0x05, extended: false, name: "MSI" },
  { offset: 0x78, id: 0x10, extended: false, name: "Express" },
];

/**
 * A GPU's function with what its source does not say filled in as a real one has it, so that there is a config space to
 * run on: a device tree from before PCI was probed knows neither BARs nor capabilities.
 */
export function completeFunction(gpu: Gpu, known: PciFunction | undefined): PciFunction {
  const base: PciFunction = known ?? { address: gpu.address, bars: [], capabilities: [] };
  return {
    ...base,
    vendorId: base.vendorId ?? NVIDIA,
    deviceId: base.deviceId ?? DEVICE_IDS[gpu.part],
    classCode: base.classCode ?? CLASS_3D,
    bars: base.bars.length > 0 ? base.bars : defaultBars(gpu),
    capabilities: base.capabilities.length > 0 ? base.capabilities : [...CAPABILITIES],
    express: base.express ?? {
      type: "endpoint",
      slotImplemented: false,
      // GP100 and GV100 have no reset of their own but the secondary bus reset.
      functionLevelReset: gpu.part === "GA100",
    },
  };
}

/** 16 MiB of registers, then the memory window and the doorbell window, at addresses of the function's own. */
function defaultBars(gpu: Gpu): Bar[] {
  const { bus, device } = splitAddress(gpu.address);
  const place = BigInt((bus & 0x3f) ^ (device << 1));
  const memory = { kind: "memory", disabled: false } as const;
  return [
    { ...memory, index: 0, address: 0x40000000n + (place << 24n), size: 1n << 24n, width: 32, prefetchable: false },
    { ...memory, index: 1, address: (0x600000n + place) << 35n, size: 1n << 34n, width: 64, prefetchable: true },
    {
      ...memory,
      index: 3,
      address: ((0x600000n + place) << 35n) | (1n << 34n),
      size: 1n << 25n,
      width: 64,
      prefetchable: true,
    },
  ];
}
