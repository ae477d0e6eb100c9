import { constants } from "node:fs";
import { Fd, libc, mapUnseen, NativeMemory, OsError, openFile, unmapUnseen } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import { type RegionMapping, VFIO_DEVICE_FEATURE_GET, VFIO_PCI_BAR5_REGION_INDEX } from "../../vfio/index.js";
import type { DeviceRegion } from "./device_regions.js";
import { VFIO_DEVICE_FEATURE, VFIO_DEVICE_FEATURE_DMA_BUF } from "./requests.js";

/**
 * What clients may map of a device.
 *
 * - `separate`: what has a file that shows one BAR and nothing else. Everything else is trapped.
 * - `trust-vmm`: the device's own file. Whoever has it can reset the device, write its config space and map all of it, so the
 *   client's process must be trusted.
 */
export type MappingPolicy = "separate" | "trust-vmm";

/** By which file a region is mapped; `trapped` when by none. */
export type MappedBy = "device fd" | "sysfs file" | "dma-buf" | "trapped";

/** How a client gets at a region without messages. */
export interface RegionFile {
  by: MappedBy;
  mapping?: RegionMapping;
  /** What must be closed with the device. */
  file?: Fd;
}

export interface RegionFileOptions {
  address: PciAddress;
  policy: MappingPolicy;
  /** The host's, in bytes. */
  pageSize: number;
  /** Regions that get no file of their own, because they have registers that a client must not reach. */
  neverSeparate: readonly number[];
}

const TRAPPED: RegionFile = { by: "trapped" };
const BOTH = { readable: true, writable: true };

/** Finds the file by which a region can be mapped, as the policy allows. */
export function regionFile(device: Fd, index: number, region: DeviceRegion, options: RegionFileOptions): RegionFile {
  const { mappable, fileOffset, size } = region;
  if (mappable.length === 0) return TRAPPED;
  const [only] = mappable;
  const isWhole = mappable.length === 1 && only?.offset === 0 && only.size === size;
  if (options.policy === "trust-vmm") {
    const mapping = { fd: device.number, offset: fileOffset, ...(!isWhole && { areas: mappable }) };
    return { by: "device fd", mapping };
  }
  // The MSI-X table is the kernel's: whoever writes it sends interrupts of his choice.
  const hasTable = region.capabilities?.some(({ kind }) => kind === "msix-mappable") === true;
  if (!isWhole || hasTable || index > VFIO_PCI_BAR5_REGION_INDEX || options.neverSeparate.includes(index))
    return TRAPPED;
  if (size % options.pageSize !== 0) return TRAPPED;
  return byDmaBuf(device, index, region) ?? bySysfs(device, index, region, options.address) ?? TRAPPED;
}

/**
 * A dma-buf of the BAR (VFIO_DEVICE_FEATURE_DMA_BUF, Linux 6.19). Kernels up to 7.2 at least make one that only other devices
 * reach: mapping it is EINVAL. Whether this one lets itself be mapped is found by trying.
 */
function byDmaBuf(device: Fd, index: number, { size }: DeviceRegion): RegionFile | undefined {
  const feature = encodeDmaBufFeature(index, size);
  const number = libc().ioctl(device.number, VFIO_DEVICE_FEATURE, "uintptr_t", feature.address);
  return number < 0 ? undefined : tried(new Fd(number), "dma-buf", size);
}

/** `struct vfio_device_feature` with a `struct vfio_device_feature_dma_buf` that has one range: a whole region. */
export function encodeDmaBufFeature(index: number, size: number): NativeMemory {
  const feature = new NativeMemory(40);
  feature.view.setUint32(0, 40, true);
  feature.view.setUint32(4, VFIO_DEVICE_FEATURE_GET | VFIO_DEVICE_FEATURE_DMA_BUF, true);
  feature.view.setUint32(8, index, true);
  feature.view.setUint32(12, constants.O_RDWR | O_CLOEXEC, true);
  feature.view.setUint32(20, 1, true);
  feature.view.setBigUint64(32, BigInt(size), true);
  return feature;
}

const O_CLOEXEC = 0o2000000;

/**
 * The BAR's file in sysfs. A kernel with IO_STRICT_DEVMEM refuses to map it from the moment that vfio-pci has the BAR, unless
 * it was booted with iomem=relaxed. So the BAR is first mapped through the device, which has vfio-pci take it.
 */
function bySysfs(device: Fd, index: number, region: DeviceRegion, address: PciAddress): RegionFile | undefined {
  let file: Fd;
  try {
    unmapUnseen(mapUnseen(device, region.fileOffset, region.size, BOTH), region.size);
    file = openFile(`/sys/bus/pci/devices/${address}/resource${index}`, constants.O_RDWR);
  } catch (error) {
    if (error instanceof OsError) return undefined;
    throw error;
  }
  return tried(file, "sysfs file", region.size);
}

/** The file, if it can be mapped; else it is closed. */
function tried(file: Fd, by: MappedBy, size: number): RegionFile | undefined {
  try {
    unmapUnseen(mapUnseen(file, 0, size, BOTH), size);
    return { by, mapping: { fd: file.number, offset: 0 }, file };
  } catch (error) {
    file.close();
    if (error instanceof OsError) return undefined;
    throw error;
  }
}
