import type { Fd, PendingCall } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import type { Steps } from "../../vfio/index.js";
import type { AddressSpace } from "./address_space.js";

/** How functions get into one address space, and their device files are opened: by groups and a container, or by an iommufd. */
export interface FunctionOpener {
  /** Where all functions do DMA; undefined while none is open. */
  readonly space: AddressSpace | undefined;
  /** Groups that are held, by their numbers; none with an iommufd. */
  readonly groups: ReadonlyMap<number, Fd>;
  /**
   * Has a function join the address space and opens its device file, which resets the function. Cancelled, it has not joined.
   * @throws {HostError} EVFIO when VFIO cannot be had for it here, with what to do
   * @throws {VfioError} what the kernel says to the rest
   */
  open(address: PciAddress): Steps<Fd>;
  /** The function's device file is closed, or will be by a call that was started: it leaves. @returns the last call of that */
  left(address: PciAddress): PendingCall | undefined;
  /** Has everything closed, whatever is mapped, by calls that follow those that were started. */
  close(): void;
}
