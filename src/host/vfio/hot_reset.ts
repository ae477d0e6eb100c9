import { type Fd, ioctl, NativeMemory } from "../../os/index.js";
import { formatAddress, type PciAddress } from "../../pci/address.js";
import { type Steps, VfioError } from "../../vfio/index.js";
import { asVfioError } from "./calling.js";
import { VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, VFIO_DEVICE_PCI_HOT_RESET, words } from "./requests.js";

const HEADER = 12;
const ENTRY = 8;
/** More functions than there can be below one bridge of one segment's quarter; the kernel wants room for all at once. */
const ROOM = HEADER + ENTRY * 4096;
const FLAG_DEV_ID = 1 << 0;
const DEVID_NOT_OWNED = 0xffff_ffff;

/** A function that a hot reset resets, too. */
export interface AffectedFunction {
  address: PciAddress;
  /** Its IOMMU group; undefined where the kernel counts in devices of an iommufd. */
  group: number | undefined;
  /** Whether the kernel takes it for this process's; undefined where groups prove that. */
  owned: boolean | undefined;
}

/** All functions, the device itself among them, that a hot reset of a device resets. @throws {VfioError} */
export function affectedByHotReset(device: Fd): AffectedFunction[] {
  const info = new NativeMemory(ROOM);
  info.view.setUint32(0, ROOM, true);
  try {
    ioctl(device, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info.address, "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO");
  } catch (error) {
    throw asVfioError(error, "the kernel does not tell what a hot reset would reset");
  }
  return decodeHotResetInfo(info.bytes);
}

/** `struct vfio_pci_hot_reset_info`. @throws {VfioError} EINVAL when entries are missing */
export function decodeHotResetInfo(bytes: Uint8Array): AffectedFunction[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const count = bytes.length < HEADER ? 0 : view.getUint32(8, true);
  if (bytes.length < HEADER + ENTRY * count) throw new VfioError("EINVAL", `hot reset info of ${bytes.length} bytes`);
  const byDevice = (view.getUint32(4, true) & FLAG_DEV_ID) !== 0;
  return Array.from({ length: count }, (_, index) => {
    const at = HEADER + ENTRY * index;
    const id = view.getUint32(at, true);
    const devfn = view.getUint8(at + 7);
    const address = formatAddress({
      domain: view.getUint16(at + 4, true),
      bus: view.getUint8(at + 6),
      device: devfn >> 3,
      function: devfn & 7,
    });
    return byDevice
      ? { address, group: undefined, owned: id !== DEVID_NOT_OWNED }
      : { address, group: id, owned: undefined };
  });
}

/**
 * Resets a device and all that are affected, by the secondary bus reset of the bridge above or its slot's.
 * @param groups of this process, by their numbers; none for devices of an iommufd
 * @param reset makes the call
 * @throws {VfioError} EPERM when functions are affected that are not this process's, with their addresses; EIO and the like when
 * the kernel cannot reset
 */
export function* hotReset(
  device: Fd,
  groups: ReadonlyMap<number, Fd>,
  reset: (request: number, argument: NativeMemory) => Steps,
): Steps {
  const affected = affectedByHotReset(device);
  const foreign = affected.filter(({ group, owned }) => !(group === undefined ? owned : groups.has(group)));
  if (foreign.length > 0) {
    const list = foreign.map(({ address }) => address).join(", ");
    throw new VfioError("EPERM", `a hot reset would reset ${list}, too, which this assignment does not have`);
  }
  const needed = new Set(affected.flatMap(({ group }) => (group === undefined ? [] : [group])));
  const fds = [...needed].flatMap((number) => groups.get(number)?.number ?? []);
  try {
    yield* reset(VFIO_DEVICE_PCI_HOT_RESET, words(HEADER + 4 * fds.length, 0, fds.length, ...fds));
  } catch (error) {
    throw asVfioError(error, "VFIO_DEVICE_PCI_HOT_RESET");
  }
}
