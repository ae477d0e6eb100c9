import { VfioError } from "./error.js";

/** Bytes of `struct vfio_irq_info`. */
export const IRQ_INFO_SIZE = 16;

/** `struct vfio_irq_info`. */
export interface IrqInfo {
  argsz: number;
  /** VFIO_IRQ_INFO_* */
  flags: number;
  index: number;
  /** How many interrupts of this kind there are. */
  count: number;
}

export function encodeIrqInfo(info: IrqInfo): Uint8Array {
  const bytes = new Uint8Array(IRQ_INFO_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, info.argsz, true);
  view.setUint32(4, info.flags, true);
  view.setUint32(8, info.index, true);
  view.setUint32(12, info.count, true);
  return bytes;
}

/** @throws {VfioError} EINVAL when there are fewer than {@link IRQ_INFO_SIZE} bytes */
export function decodeIrqInfo(bytes: Uint8Array): IrqInfo {
  if (bytes.length < IRQ_INFO_SIZE) {
    throw new VfioError("EINVAL", `irq info of ${bytes.length} bytes, ${IRQ_INFO_SIZE} are needed`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return {
    argsz: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    index: view.getUint32(8, true),
    count: view.getUint32(12, true),
  };
}
