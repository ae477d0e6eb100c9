import { type Fd, libc, NativeMemory, OsError } from "../../os/index.js";
import {
  decodeIrqInfo,
  encodeIrqSet,
  IRQ_INFO_SIZE,
  IRQ_SET_SIZE,
  type IrqSet,
  VfioError,
  type VfioIrq,
} from "../../vfio/index.js";
import { asVfioError } from "./calling.js";
import { askFor, VFIO_DEVICE_GET_IRQ_INFO, VFIO_DEVICE_SET_IRQS } from "./requests.js";

/** As many as an MSI-X table has entries at most (PCIe Base Specification 7.7.2). */
const MAX_IRQS = 2048;
/** What takes an interrupt's eventfd away. */
const NO_FD = -1;

/** A device's interrupts of one kind; undefined when it has none. @throws {VfioError} EIO for a count that cannot be */
export function readIrq(device: Fd, index: number): VfioIrq | undefined {
  let bytes: Uint8Array;
  try {
    const name = `VFIO_DEVICE_GET_IRQ_INFO ${index}`;
    bytes = askFor(device, VFIO_DEVICE_GET_IRQ_INFO, name, IRQ_INFO_SIZE, (view) =>
      view.setUint32(8, index, true),
    ).bytes;
  } catch (error) {
    const refusal = asVfioError(error, `interrupts of index ${index}`);
    // As the kernel says it of error notification where there is no PCI Express.
    if (refusal.code === "EINVAL") return undefined;
    throw refusal;
  }
  const { flags, count } = decodeIrqInfo(bytes);
  if (count > MAX_IRQS) throw new VfioError("EIO", `${count} interrupts of index ${index}`);
  return count === 0 ? undefined : { flags, count };
}

/**
 * Hands what SET_IRQS asks for to the kernel.
 * @param eventfds one for each interrupt with data "eventfd", or none, which takes them away
 * @throws {VfioError} what the kernel says, and ENOSPC when it has fewer interrupts than are asked for
 */
export function setKernelIrqs(device: Fd, set: IrqSet, eventfds: readonly number[]): void {
  const memory = encodeKernelIrqSet(set, eventfds);
  const result = libc().ioctl(device.number, VFIO_DEVICE_SET_IRQS, "uintptr_t", memory.address);
  const what = `VFIO_DEVICE_SET_IRQS: ${set.action} ${set.count} from ${set.start} of index ${set.index}`;
  if (result < 0) throw asVfioError(new OsError("ioctl", libc().errno()), what);
  // With MSI and MSI-X: so many there would be (vfio_pci_intrs.c).
  if (result > 0) throw new VfioError("ENOSPC", `${what}: the kernel has ${result}`);
}

/** `struct vfio_irq_set` with its descriptors. @throws {VfioError} EINVAL for some descriptors, but not all */
export function encodeKernelIrqSet(set: IrqSet, eventfds: readonly number[]): NativeMemory {
  const head = encodeIrqSet(set);
  const count = set.data.kind === "eventfd" ? set.count : 0;
  if (count > MAX_IRQS || (eventfds.length !== 0 && eventfds.length !== count)) {
    throw new VfioError("EINVAL", `SET_IRQS of ${count} interrupts with ${eventfds.length} descriptors`);
  }
  const memory = new NativeMemory(head.length + 4 * count);
  memory.bytes.set(head);
  memory.view.setUint32(0, memory.bytes.length, true);
  for (let at = 0; at < count; at++) memory.view.setInt32(IRQ_SET_SIZE + 4 * at, eventfds[at] ?? NO_FD, true);
  return memory;
}
