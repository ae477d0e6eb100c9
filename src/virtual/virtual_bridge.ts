import type { Bridge } from "../machine/machine.js";
import type { PciFunction } from "../pci/function.js";
import { ConfigImage, type ConfigSize } from "./config_image.js";

const IBM = 0x1014;
const NPU_BRIDGE = 0x04ea;
const CLASS_OTHER_BRIDGE = 0x068001;

/**
 * An NPU bridge: the CPU's end of one NVLink. A link that is taken down under it raises a hardware management interrupt
 * and freezes it, unless the link was put into reset before (skiboot hw/npu2.c, the filter on the bridge control register).
 */
export class VirtualBridge {
  /** The brick is fenced and its data link layer in reset: the far end may go away. */
  inReset = false;
  /** Nothing answers until the NPU's host bridge is reset. */
  frozen = false;
  readonly #function: PciFunction | undefined;
  #image: ConfigImage | undefined;

  constructor(
    readonly bridge: Bridge,
    fn: PciFunction | undefined,
  ) {
    this.#function = fn;
  }

  /** Reads config space; all ones while frozen. */
  readConfig(offset: number, size: ConfigSize): number {
    return this.frozen ? 2 ** (8 * size) - 1 : this.#config.read(offset, size);
  }

  /** Writes config space. The emulated function level reset is how Linux puts the link into reset by hand. */
  writeConfig(offset: number, size: ConfigSize, value: number): void {
    if (!this.frozen && this.#config.write(offset, size, value)) this.inReset = true;
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
    return !this.inReset && !this.frozen;
  }

  get #config(): ConfigImage {
    this.#image ??= new ConfigImage(completeBridge(this.bridge, this.#function));
    return this.#image;
  }
}

/** The function as firmware emulates it: two 64-bit BARs (NTL, GENID) and an Express capability with FLR. */
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
    capabilities:
      base.capabilities.length > 0 ? base.capabilities : [{ offset: 0x40, id: 0x10, extended: false, name: "Express" }],
    express: base.express ?? { type: "endpoint", slotImplemented: false, functionLevelReset: true },
  };
}
