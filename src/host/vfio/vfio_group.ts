import { constants, existsSync, readdirSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { type CallThread, type Fd, ioctl, type PendingCall } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import type { Steps } from "../../vfio/index.js";
import { errnoInWords, errnoOf, HostError } from "../error.js";
import { calling, opening } from "./calling.js";
import { VFIO_GROUP_GET_STATUS, VFIO_GROUP_SET_CONTAINER, VFIO_GROUP_UNSET_CONTAINER, words } from "./requests.js";

const O_CLOEXEC = 0o2000000;
const VIABLE = 1 << 0;
/** Drivers that leave DMA to others (`driver_managed_dma`), so a group may have them; and VFIO's own, by their names. */
const HARMLESS = /^(?:pci-stub|pcieport|.*vfio.*)$/;

/** Whether a group may have a function with this driver and be handed out all the same. */
export function leavesGroupViable(driver: string): boolean {
  return HARMLESS.test(driver);
}

/** An IOMMU group that this process holds; the kernel gives it to one at a time. A thread makes all calls, in order. */
export class VfioGroup {
  private constructor(
    /** Its number, as `/sys/kernel/iommu_groups` has it. */
    readonly number: number,
    readonly fd: Fd,
    private readonly thread: CallThread,
  ) {}

  /**
   * Takes a function's group.
   * @throws {HostError} EVFIO with what to do: without an IOMMU or vfio-pci, without permission, when another process has
   * the group, and when a function of it has a driver that does DMA
   */
  static *open(address: PciAddress, thread: CallThread): Steps<VfioGroup> {
    const number = groupOf(address);
    const path = `/dev/vfio/${number}`;
    let fd: Fd;
    try {
      fd = yield* opening(thread, "open", path, constants.O_RDWR | O_CLOEXEC);
    } catch (error) {
      throw new HostError("EVFIO", refusal(address, path, errnoOf(error)), errnoOf(error));
    }
    const group = new VfioGroup(number, fd, thread);
    try {
      group.#requireViable(address);
    } catch (error) {
      group.close();
      throw error;
    }
    return group;
  }

  /** @throws {OsError} */
  *setContainer(container: Fd): Steps {
    yield* calling(this.thread, "ioctl", this.fd, VFIO_GROUP_SET_CONTAINER, words(container.number));
  }

  /** Begins to leave its container, when none of its functions is open any more, and to be given back. */
  close(): PendingCall {
    // Fails when it was in none; closing does the rest.
    this.thread.start("ioctl", this.fd, VFIO_GROUP_UNSET_CONTAINER, 0);
    return this.thread.start("close", this.fd.release());
  }

  #requireViable(address: PciAddress): void {
    const status = words(8, 0);
    ioctl(this.fd, VFIO_GROUP_GET_STATUS, status.address, "VFIO_GROUP_GET_STATUS");
    if ((status.view.getUint32(4, true) & VIABLE) !== 0) return;
    const foreign = foreignMembers(this.number).map(({ name, driver }) => `${name} (${driver})`);
    const who = foreign.length === 0 ? "others of its functions are in use" : `in use: ${foreign.join(", ")}`;
    throw new HostError(
      "EVFIO",
      `${address} cannot be passed through alone: IOMMU group ${this.number} has functions that the host uses, and VFIO ` +
        `wants all of it; ${who}: give them to vfio-pci, too, or unbind their drivers`,
    );
  }
}

/** The number of a function's IOMMU group. @throws {HostError} EVFIO when it has none, EGONE when there is no such function */
export function groupOf(address: PciAddress): number {
  const folder = `/sys/bus/pci/devices/${address}`;
  try {
    const number = Number(basename(readlinkSync(`${folder}/iommu_group`)));
    if (Number.isSafeInteger(number)) return number;
  } catch {
    if (!existsSync(folder)) throw new HostError("EGONE", `there is no function ${address}`);
  }
  throw new HostError(
    "EVFIO",
    `${address} has no IOMMU group: switch the IOMMU on in firmware, and boot with intel_iommu=on or what the platform wants`,
  );
}

/** Functions of a group that have drivers which do DMA of their own. */
export function foreignMembers(group: number): { name: string; driver: string }[] {
  const folder = `/sys/kernel/iommu_groups/${group}/devices`;
  const found: { name: string; driver: string }[] = [];
  for (const name of readdirSync(folder).sort()) {
    try {
      const driver = basename(readlinkSync(`${folder}/${name}/driver`));
      if (!leavesGroupViable(driver)) found.push({ name, driver });
    } catch {
      // It has no driver.
    }
  }
  return found;
}

function refusal(address: PciAddress, path: string, errno: string): string {
  switch (errno) {
    case "ENOENT":
      return `${address} is not with vfio-pci: there is no ${path}; load vfio-pci and bind the function to it`;
    case "EBUSY":
      return `${address}: another process uses ${path}; end it, or leave the function to it`;
    case "EACCES":
    case "EPERM":
      return `${address}: ${path} may not be opened; run as root, or give this user the file`;
    default:
      return `${address}: cannot open ${path}: ${errnoInWords(errno)}`;
  }
}
