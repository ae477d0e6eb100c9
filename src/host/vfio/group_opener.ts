import { constants } from "node:fs";
import { type CallThread, type Fd, ioctl, NativeMemory, OsError, openFile, type PendingCall } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import type { Steps } from "../../vfio/index.js";
import { errnoInWords, errnoOf, HostError } from "../error.js";
import type { AddressSpace } from "./address_space.js";
import { asVfioError, calling, opening } from "./calling.js";
import type { FunctionOpener } from "./function_opener.js";
import {
  VFIO_CHECK_EXTENSION,
  VFIO_GET_API_VERSION,
  VFIO_GROUP_GET_DEVICE_FD,
  VFIO_SET_IOMMU,
  VFIO_SPAPR_TCE_V2_IOMMU,
  VFIO_TYPE1V2_IOMMU,
} from "./requests.js";
import { TceSpace } from "./tce_space.js";
import { Type1Space } from "./type1_space.js";
import { groupOf, VfioGroup } from "./vfio_group.js";

const CONTAINER = "/dev/vfio/vfio";
const API_VERSION = 0;

interface HeldGroup {
  readonly group: VfioGroup;
  readonly members: Set<PciAddress>;
}

/** Functions by their groups, in one container. A container has an IOMMU, and maps, only while it has a group. */
export class GroupOpener implements FunctionOpener {
  readonly groups = new Map<number, Fd>();
  readonly #container: Fd;
  readonly #held = new Map<number, HeldGroup>();
  readonly #dmaThread: CallThread;
  readonly #deviceThread: CallThread;
  #space: AddressSpace | undefined;

  /** @throws {HostError} EVFIO when there is no VFIO here, or this process may not use it */
  constructor(dmaThread: CallThread, deviceThread: CallThread) {
    this.#dmaThread = dmaThread;
    this.#deviceThread = deviceThread;
    this.#container = openContainer();
  }

  get space(): AddressSpace | undefined {
    return this.#space;
  }

  *open(address: PciAddress): Steps<Fd> {
    const held = yield* this.#join(address);
    const name = new NativeMemory(address.length + 1);
    name.bytes.set(Buffer.from(address));
    let fd: Fd | undefined;
    try {
      fd = yield* opening(this.#deviceThread, "ioctl", held.group.fd, VFIO_GROUP_GET_DEVICE_FD, name);
      return fd;
    } catch (error) {
      throw asVfioError(error, `${address}: VFIO_GROUP_GET_DEVICE_FD; is it bound to vfio-pci?`);
    } finally {
      if (fd === undefined) this.left(address);
    }
  }

  left(address: PciAddress): PendingCall | undefined {
    let last: PendingCall | undefined;
    for (const [number, { group, members }] of this.#held) {
      if (!members.delete(address) || members.size > 0) continue;
      last = group.close();
      this.#held.delete(number);
      this.groups.delete(number);
    }
    if (this.#held.size === 0) this.#space = undefined;
    return last;
  }

  close(): void {
    for (const { group } of this.#held.values()) group.close();
    this.#held.clear();
    this.groups.clear();
    this.#space = undefined;
    this.#deviceThread.start("close", this.#container.release());
  }

  /** The function's group, in the container. */
  *#join(address: PciAddress): Steps<HeldGroup> {
    const known = this.#held.get(groupOf(address));
    if (known !== undefined) {
      known.members.add(address);
      return known;
    }
    const group = yield* VfioGroup.open(address, this.#deviceThread);
    let joined = false;
    try {
      yield* group.setContainer(this.#container);
      this.#space ??= yield* this.#setIommu();
      joined = true;
    } catch (error) {
      if (error instanceof HostError) throw error;
      throw asVfioError(error, `${address}: group ${group.number} cannot be in the assignment's container`);
    } finally {
      if (!joined) group.close();
    }
    const held = { group, members: new Set([address]) };
    this.#held.set(group.number, held);
    this.groups.set(group.number, group.fd);
    return held;
  }

  *#setIommu(): Steps<AddressSpace> {
    const isTce = process.arch === "ppc64";
    const type = isTce ? VFIO_SPAPR_TCE_V2_IOMMU : VFIO_TYPE1V2_IOMMU;
    if (ioctl(this.#container, VFIO_CHECK_EXTENSION, type, "VFIO_CHECK_EXTENSION") === 0) {
      const module = isTce ? "vfio_iommu_spapr_tce" : "vfio_iommu_type1";
      throw new HostError("EVFIO", `the kernel has no VFIO IOMMU driver for this host: load ${module}`);
    }
    yield* calling(this.#deviceThread, "ioctl", this.#container, VFIO_SET_IOMMU, type);
    const Space = isTce ? TceSpace : Type1Space;
    return new Space(this.#container, this.#dmaThread);
  }
}

function openContainer(): Fd {
  let container: Fd;
  try {
    container = openFile(CONTAINER, constants.O_RDWR);
  } catch (error) {
    const errno = errnoOf(error);
    const todo =
      errno === "ENOENT" ? "load vfio-pci" : errno === "EACCES" ? "run as root" : "see whether vfio is loaded";
    throw new HostError("EVFIO", `cannot open ${CONTAINER}: ${errnoInWords(errno)}; ${todo}`, errno);
  }
  let version: number;
  try {
    version = ioctl(container, VFIO_GET_API_VERSION, 0, "VFIO_GET_API_VERSION");
  } catch (error) {
    container.close();
    if (!(error instanceof OsError)) throw error;
    throw new HostError("EVFIO", `${CONTAINER} is no VFIO container`, error.code);
  }
  if (version === API_VERSION) return container;
  container.close();
  throw new HostError("EVFIO", `VFIO's version is ${version}, not ${API_VERSION}`);
}
