import { capabilitiesAt } from "../machine/builtin/capability_place.js";
import { GPU_BAR0_SIZE, GPU_BAR3_SIZE, GPU_MODELS, type GpuModel, NVIDIA } from "../machine/builtin/gpu_model.js";
import type { Gpu } from "../machine/machine.js";
import { splitAddress } from "../pci/address.js";
import type { Bar, PciFunction } from "../pci/function.js";
import { decodedSize } from "./bar_registers.js";

/** Display controller, 3D. */
const CLASS_3D = 0x030200;
const REVISION_A1 = 0xa1;

/** For a part that nobody modelled: no ids, and only what all of NVIDIA's parts have. */
const UNKNOWN_MODEL: GpuModel = {
  deviceId: 0,
  subsystemId: 0,
  name: "unknown",
  bar1Size: 1n << 34n,
  functionLevelReset: false,
  capabilities: [
    [0x60, 0x01],
    [0x68, 0x05],
    [0x78, 0x10],
  ],
};

/**
 * A GPU's function with what its source does not say filled in as a real one has it, so that there is a config space to
 * run on: a device tree from before PCI was probed knows neither BARs nor capabilities.
 * @param memorySize bytes of GPU memory that BAR1 must have room for; absent: BAR1 stays as the source has it
 */
export function completeFunction(gpu: Gpu, known: PciFunction | undefined, memorySize?: number): PciFunction {
  const base: PciFunction = known ?? { address: gpu.address, bars: [], capabilities: [] };
  const model = gpu.part === "unknown" ? UNKNOWN_MODEL : GPU_MODELS[gpu.part];
  const bars = base.bars.length > 0 ? base.bars : addressesOf(gpu, model);
  return {
    ...base,
    vendorId: base.vendorId ?? NVIDIA,
    deviceId: base.deviceId ?? model.deviceId,
    subsystemVendorId: base.subsystemVendorId ?? NVIDIA,
    subsystemId: base.subsystemId ?? model.subsystemId,
    classCode: base.classCode ?? CLASS_3D,
    revision: base.revision ?? REVISION_A1,
    bars: withRoomFor(
      memorySize ?? 0,
      bars.map((bar) => withSize(bar, model)),
    ),
    capabilities: base.capabilities.length > 0 ? base.capabilities : capabilitiesAt(model.capabilities),
    express: base.express ?? {
      type: "endpoint",
      slotImplemented: false,
      functionLevelReset: model.functionLevelReset,
    },
  };
}

/** 16 MiB of registers, then the memory window and the doorbell window, at addresses of the function's own. */
function addressesOf(gpu: Gpu, model: GpuModel): Bar[] {
  const { bus, device } = splitAddress(gpu.address);
  const place = BigInt((bus & 0x3f) ^ (device << 1));
  const window = (0x6000n + place) << 37n;
  const memory = { kind: "memory", disabled: false } as const;
  return [
    { ...memory, index: 0, address: 0x40000000n + (place << 24n), width: 32, prefetchable: false },
    { ...memory, index: 1, address: window, width: 64, prefetchable: true },
    { ...memory, index: 3, address: window + model.bar1Size, width: 64, prefetchable: true },
  ];
}

/** Sources that know config space alone never know sizes. */
function withSize(bar: Bar, model: GpuModel): Bar {
  const size = bar.size ?? { 0: GPU_BAR0_SIZE, 1: model.bar1Size, 3: GPU_BAR3_SIZE }[Number(bar.index)];
  return size === undefined ? bar : { ...bar, size };
}

/** BAR1 large enough for so many bytes; BAR3, which lies behind it, moves out of its way. */
function withRoomFor(memorySize: number, bars: readonly Bar[]): Bar[] {
  const window = bars.find(({ index }) => index === 1);
  if (window === undefined || decodedSize(window) >= BigInt(memorySize)) return [...bars];
  const size = decodedSize({ ...window, size: BigInt(memorySize) });
  const end = window.address + size;
  return bars.map((bar) => {
    if (bar === window) return { ...bar, size };
    const inTheWay = bar.index === 3 && bar.address > window.address && bar.address < end;
    return inTheWay ? { ...bar, address: end } : bar;
  });
}
