import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from "../vfio/constants.js";
import type { VfioDevice } from "../vfio/device.js";
import { FenceError } from "./error.js";
import type { GpuPort } from "./gpu_port.js";

/**
 * A VFIO device of a GPU as a fence sees it: its config region, its BAR0 region and its reset. Whatever the device throws
 * passes through.
 * @param linksUp the links that are trained, where the device's platform can tell
 */
export function vfioPort(device: VfioDevice, linksUp?: () => number[]): GpuPort {
  const data = { 1: new Uint8Array(1), 2: new Uint8Array(2), 4: new Uint8Array(4) };
  const read = (region: number, offset: number, size: 1 | 2 | 4): number => {
    // A device that fills less than it should has not answered.
    data[size].fill(0xff);
    device.read(region, offset, data[size]);
    return littleEndian(data[size]);
  };
  const write = (region: number, offset: number, size: 1 | 2 | 4, value: number): void => {
    for (let at = 0; at < size; at++) data[size][at] = value >>> (8 * at);
    device.write(region, offset, data[size]);
  };
  return {
    readConfig: (offset, size) => read(VFIO_PCI_CONFIG_REGION_INDEX, offset, size),
    writeConfig: (offset, size, value) => write(VFIO_PCI_CONFIG_REGION_INDEX, offset, size, value),
    readBar0: (offset) => read(VFIO_PCI_BAR0_REGION_INDEX, offset, 4),
    writeBar0: (offset, value) => write(VFIO_PCI_BAR0_REGION_INDEX, offset, 4, value),
    secondaryBusReset: () => {
      if (device.reset === undefined) throw new FenceError("EFENCE_PLAN", "the device cannot be reset");
      return device.reset();
    },
    ...(linksUp === undefined ? {} : { linksUp }),
  };
}

/** The value of up to four bytes, unsigned. */
export function littleEndian(data: Uint8Array): number {
  let value = 0;
  for (let at = data.length - 1; at >= 0; at--) value = (value << 8) | (data[at] ?? 0);
  return value >>> 0;
}
