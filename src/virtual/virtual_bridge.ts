import type { Bridge } from "../machine/machine.js";
import { capabilityName } from "../pci/capability_name.js";
import type { Bar, Capability, PciFunction } from "../pci/function.js";
import { bridgeCapabilities } from "./bridge_capabilities.js";
import { ConfigImage, type ConfigSize } from "./config_image.js";

const IBM = 0x1014;
const NPU_BRIDGE = 0x04ea;
const CLASS_OTHER_BRIDGE = 0x068001;
/** What skiboot's `pci_virt_add_device` gives an NPU bridge. */
const CONFIG_SIZE = 256;
/** The first of the two BARs that firmware leaves free. */
const RAM_BAR = 4;

/**
 * An NPU bridge: the CPU's end of one NVLink. A link that is taken down under it raises a hardware management interrupt
 * and freezes it, unless the link was put into reset before (skiboot hw/npu2.c, the filter on the bridge control register).
 */
export class VirtualBridge {
  /** The brick is fenced and its data link layer in reset: the far end may go away. */
  inReset = false;
  /** Whether its driver wants the link trained; set as after the driver was loaded. */
  driverAsks = true;
  /** Nothing answers until the NPU's host bridge is reset. */
  frozen = false;
  readonly #function: PciFunction | undefined;
  #ramSize = 0;
  #image: ConfigImage | undefined;

  constructor(
    readonly bridge: Bridge,
    fn: PciFunction | undefined,
  ) {
    this.#function = fn;
  }

  /** Config space, whether the bridge is frozen or not. */
  get config(): ConfigImage {
    this.#image ??= this.#makeImage();
    return this.#image;
  }

  /**
   * Shows GPU memory of so many bytes (a power of two) as a 64-bit prefetchable BAR4, which no NPU bridge has: a way in
   * for hypervisors that map a device's BARs and no other region. Config space begins anew.
   */
  addRamBar(size: number): void {
    this.#ramSize = size;
    this.#image = undefined;
  }

  /** Reads config space; all ones while frozen. */
  readConfig(offset: number, size: ConfigSize): number {
    return this.frozen ? 2 ** (8 * size) - 1 : this.config.read(offset, size);
  }

  /** Writes config space. The emulated function level reset is how Linux puts the link into reset by hand. */
  writeConfig(offset: number, size: ConfigSize, value: number): void {
    if (!this.frozen && this.config.write(offset, size, value)) this.inReset = true;
  }

  /** {@link readConfig} for any length and alignment. */
  readConfigBytes(offset: number, data: Uint8Array): void {
    if (this.frozen) data.fill(0xff);
    else this.config.readBytes(offset, data);
  }

  /** {@link writeConfig} for any length and alignment. */
  writeConfigBytes(offset: number, data: Uint8Array): void {
    if (!this.frozen && this.config.writeBytes(offset, data)) this.inReset = true;
  }

  /** The GPU at the other end is being reset; returns whether that froze the bridge. */
  farEndReset(): boolean {
    if (this.inReset || this.frozen) return false;
    this.frozen = true;
    return true;
  }

  /** Reset of the NPU's host bridge: the one way out of the freeze. It leaves the link in reset (npu2.c, hreset). */
  hostReset(): void {
    this.frozen = false;
    this.inReset = true;
  }

  /** Whether the CPU's end of the link would train. */
  get linkEnabled(): boolean {
    return this.driverAsks && !this.inReset && !this.frozen;
  }

  #makeImage(): ConfigImage {
    const fn = completeBridge(this.bridge, this.#function);
    const bars = this.#ramSize === 0 ? fn.bars : [...fn.bars.filter(belowRamBar), ramBar(this.#ramSize)];
    const bodies = bridgeCapabilities(this.bridge.linkIndex, this.bridge.gpu !== undefined);
    return new ConfigImage({ ...fn, bars }, CONFIG_SIZE, bodies);
  }
}

function belowRamBar({ index, width }: Bar): boolean {
  return index !== "rom" && (width === 64 ? index + 1 : index) < RAM_BAR;
}

function ramBar(size: number): Bar {
  const memory = { kind: "memory", address: 0n, width: 64, prefetchable: true, disabled: true } as const;
  return { ...memory, index: RAM_BAR, size: BigInt(size) };
}

/** The function as firmware emulates it: two 64-bit BARs (NTL, GENID), an Express capability with FLR, and its own. */
function completeBridge(bridge: Bridge, known: PciFunction | undefined): PciFunction {
  const base: PciFunction = known ?? { address: bridge.address, bars: [], capabilities: [] };
  const bar = { kind: "memory", address: 0n, width: 64, prefetchable: false, disabled: true } as const;
  return {
    ...base,
    vendorId: base.vendorId ?? IBM,
    deviceId: base.deviceId ?? NPU_BRIDGE,
    classCode: base.classCode ?? CLASS_OTHER_BRIDGE,
    revision: base.revision ?? 1,
    multifunction: base.multifunction ?? true,
    bars:
      base.bars.length > 0
        ? base.bars
        : [
            { ...bar, index: 0, size: 0x20000n },
            { ...bar, index: 2, size: 0x10000n },
          ],
    capabilities: base.capabilities.length > 0 ? base.capabilities : [standard(0x40, 0x10), standard(0x80, 0x09)],
    express: base.express ?? { type: "endpoint", slotImplemented: false, functionLevelReset: true },
  };
}

function standard(offset: number, id: number): Capability {
  return { offset, id, extended: false, name: capabilityName(id, false) };
}
