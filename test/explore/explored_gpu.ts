import type { GpuPort } from "../../src/fence/gpu_port.js";
import { littleEndian } from "../../src/fence/vfio_port.js";
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from "../../src/vfio/constants.js";
import type { VfioDevice, VfioRegion } from "../../src/vfio/device.js";
import type { Steps } from "../../src/vfio/steps.js";

/** What a server's device tells of its client. */
export interface Comings {
  opened(): void;
  closed(): void;
  /** What the device does after a client is done. */
  cleared(): void;
}

/** A GPU of explored hardware as the plainest VFIO device: its registers and its config space. */
export class ExploredGpu implements VfioDevice {
  readonly regions: readonly (VfioRegion | undefined)[];
  readonly irqs = [];

  constructor(
    private readonly port: GpuPort,
    private readonly comings: Comings,
  ) {
    const open = { readable: true, writable: true };
    const regions = new Array<VfioRegion | undefined>(9).fill(undefined);
    regions[VFIO_PCI_BAR0_REGION_INDEX] = { ...open, size: 0x1000000, mapping: { fd: 99, offset: 0 } };
    regions[VFIO_PCI_CONFIG_REGION_INDEX] = { ...open, size: 4096 };
    this.regions = regions;
  }

  /** Whole aligned words of registers, and any of config space: that is all that is asked of it. */
  read(region: number, offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i += 4) {
      const value =
        region === VFIO_PCI_CONFIG_REGION_INDEX
          ? this.port.readConfig((offset + i) & ~3, 4) >>> (8 * ((offset + i) & 3))
          : this.port.readBar0(offset + i);
      for (let byte = i; byte < Math.min(i + 4, data.length); byte++) data[byte] = value >>> (8 * (byte - i));
    }
  }

  write(region: number, offset: number, data: Uint8Array): void {
    if (region === VFIO_PCI_CONFIG_REGION_INDEX) {
      data.forEach((byte, i) => {
        this.port.writeConfig(offset + i, 1, byte);
      });
    } else {
      for (let i = 0; i < data.length; i += 4) this.port.writeBar0(offset + i, littleEndian(data.subarray(i, i + 4)));
    }
  }

  reset(): Steps {
    return this.port.secondaryBusReset();
  }

  open(): void {
    this.comings.opened();
  }

  close(): void {
    this.comings.closed();
  }

  *afterClose(): Steps {
    yield { deadline: 0 };
    this.comings.cleared();
  }
}
