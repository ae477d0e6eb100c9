import type { Steps } from "../vfio/steps.js";

/**
 * What a fence needs of one GPU: a kernel VFIO device, a mapped sysfs resource and a virtual GPU all can be behind it.
 * Any of these may throw when the device is gone; the GPU then counts as not fenced.
 */
export interface GpuPort {
  /** Reads 1, 2 or 4 bytes of config space, little endian; all ones when the function does not answer. */
  readConfig(offset: number, size: 1 | 2 | 4): number;
  writeConfig(offset: number, size: 1 | 2 | 4, value: number): void;
  /** Reads a 32-bit register of BAR0 as an unsigned number; all ones while BAR0 is not decoded. */
  readBar0(offset: number): number;
  writeBar0(offset: number, value: number): void;
  /** Resets the GPU from the port above it; over when its config space answers again, restored or not. */
  secondaryBusReset(): Steps;
  /** Puts the NPU's ends of this GPU's links into reset. Only where there are NPU bridges; may be called twice. */
  holdNpuLinks?(): void;
  /** Lets them train again. Comes with {@link holdNpuLinks}. */
  releaseNpuLinks?(): void;
  /** The links that are trained, where that can be told apart from their registers. */
  linksUp?(): number[];
}
