import { constants, existsSync, readdirSync } from "node:fs";
import { type CallThread, type Fd, openFile, type PendingCall } from "../../os/index.js";
import type { PciAddress } from "../../pci/address.js";
import type { Steps } from "../../vfio/index.js";
import { errnoInWords, errnoOf, HostError } from "../error.js";
import { asVfioError, calling } from "./calling.js";
import type { FunctionOpener } from "./function_opener.js";
import { IommufdSpace } from "./iommufd_space.js";
import { VFIO_DEVICE_ATTACH_IOMMUFD_PT, VFIO_DEVICE_BIND_IOMMUFD, words } from "./requests.js";

const IOMMUFD = "/dev/iommu";

/**
 * The device file that a function has of its own (`/dev/vfio/devices/vfioN`), for use with an iommufd; undefined where the
 * kernel has no iommufd or no such files (CONFIG_VFIO_DEVICE_CDEV), or vfio-pci not the function.
 */
export function deviceFileOf(address: PciAddress): string | undefined {
  if (!existsSync(IOMMUFD)) return undefined;
  try {
    const name = readdirSync(`/sys/bus/pci/devices/${address}/vfio-dev`).find((each) => /^vfio[0-9]+$/.test(each));
    const path = `/dev/vfio/devices/${name}`;
    return name !== undefined && existsSync(path) ? path : undefined;
  } catch {
    return undefined;
  }
}

/** Functions by files of their own, attached to an address space of an iommufd. As {@link IommufdSpace}, not run so far. */
export class IommufdOpener implements FunctionOpener {
  readonly groups: ReadonlyMap<number, Fd> = new Map();
  readonly #iommufd: Fd;
  readonly #dmaThread: CallThread;
  readonly #deviceThread: CallThread;
  #space: IommufdSpace | undefined;

  /** @throws {HostError} EVFIO when this process may not use it */
  constructor(dmaThread: CallThread, deviceThread: CallThread) {
    this.#dmaThread = dmaThread;
    this.#deviceThread = deviceThread;
    this.#iommufd = openOr(IOMMUFD);
  }

  get space(): IommufdSpace | undefined {
    return this.#space;
  }

  *open(address: PciAddress): Steps<Fd> {
    const path = deviceFileOf(address);
    if (path === undefined)
      throw new HostError("EVFIO", `${address} has no file below /dev/vfio/devices: bind it to vfio-pci`);
    this.#space ??= yield* IommufdSpace.create(this.#iommufd, this.#dmaThread);
    const device = openOr(path);
    let attached = false;
    try {
      yield* calling(
        this.#deviceThread,
        "ioctl",
        device,
        VFIO_DEVICE_BIND_IOMMUFD,
        words(16, 0, this.#iommufd.number, 0),
      );
      const attach = words(12, 0, this.#space.ioasId);
      yield* calling(this.#deviceThread, "ioctl", device, VFIO_DEVICE_ATTACH_IOMMUFD_PT, attach);
      attached = true;
      return device;
    } catch (error) {
      throw asVfioError(error, `${address} cannot be attached to the assignment's address space`);
    } finally {
      // In turn, for a call that was begun may still use it.
      if (!attached) this.#deviceThread.start("close", device.release());
    }
  }

  left(): PendingCall | undefined {
    // Closing its file was all.
    return undefined;
  }

  close(): void {
    this.#space = undefined;
    this.#deviceThread.start("close", this.#iommufd.release());
  }
}

function openOr(path: string): Fd {
  try {
    return openFile(path, constants.O_RDWR);
  } catch (error) {
    const errno = errnoOf(error);
    throw new HostError(
      "EVFIO",
      `cannot open ${path}: ${errnoInWords(errno)}; run as root, or give this user the file`,
      errno,
    );
  }
}
