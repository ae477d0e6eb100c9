import type { Fd } from "../os/index.js";
import {
  DEVICE_INFO_SIZE,
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeIrqSet,
  decodeRegionInfo,
  encodeDeviceInfo,
  encodeIrqInfo,
  encodeRegionInfo,
  IRQ_INFO_SIZE,
  REGION_INFO_SIZE,
  type RegionCapability,
  type Steps,
  VFIO_DEVICE_FLAGS_PCI,
  VFIO_DEVICE_FLAGS_RESET,
  VFIO_PCI_NUM_IRQS,
  VFIO_PCI_NUM_REGIONS,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VFIO_REGION_INFO_FLAG_WRITE,
  type VfioDevice,
  VfioError,
  type VfioRegion,
  withinTime,
} from "../vfio/index.js";
import type { Attachment } from "./attachment.js";
import { DMA_MAP_SIZE, DMA_UNMAP_SIZE, decodeDmaMap, decodeDmaUnmap } from "./dma_message.js";
import { Command, commandName } from "./header.js";
import { decodeDeviceFeature, decodeMigrationData } from "./migration.js";
import { decodeWriteMulti, encodeWriteMultiReply } from "./region_access.js";
import {
  decodeRegionIoFds,
  encodeRegionIoFds,
  IO_FD_TYPE_IOEVENTFD,
  KVM_IOEVENTFD_FLAG_DATAMATCH,
  REGION_IO_FDS_SIZE,
  SUB_REGION_SIZE,
} from "./region_io_fds.js";
import { RESET_TIMEOUT } from "./server_limits.js";

/** The payload of a reply and the descriptors that go along, which stay their owner's. */
export interface Reply {
  payload: Uint8Array;
  fds?: number[];
}

const EMPTY: Reply = { payload: new Uint8Array(0) };

/**
 * Answers a command that is neither VERSION nor a single region access, nor one that takes its time.
 * @param payload in place, valid only during the call
 * @param fds ownership passes to this function
 * @throws {VfioError} what the client is to be told
 */
export function answer(attachment: Attachment, command: number, payload: Uint8Array, fds: Fd[]): Reply {
  if (command === Command.DEVICE_SET_IRQS) return setIrqs(attachment, payload, fds);
  refuseFds(command, fds);
  switch (command) {
    case Command.DEVICE_GET_INFO:
      return deviceInfo(attachment.device, payload);
    case Command.DEVICE_GET_REGION_INFO:
      return regionInfo(attachment, payload);
    case Command.DEVICE_GET_REGION_IO_FDS:
      return regionIoFds(attachment, payload);
    case Command.DEVICE_GET_IRQ_INFO:
      return irqInfo(attachment.device, payload);
    case Command.REGION_WRITE_MULTI:
      return writeMulti(attachment.device, payload);
    case Command.DEVICE_FEATURE: {
      const { flags } = decodeDeviceFeature(payload);
      throw new VfioError("ENOTSUP", `device feature 0x${flags.toString(16)}`);
    }
    case Command.MIG_DATA_READ:
    case Command.MIG_DATA_WRITE:
      decodeMigrationData(payload);
      throw new VfioError("ENOTSUP", "migration");
    default:
      throw new VfioError("ENOTSUP", commandName(command));
  }
}

/** A command whose steps end before the client's next command is looked at, and the reply to it. */
export interface LongCommand {
  steps: Steps;
  reply: Reply;
}

/** Begins DEVICE_RESET, DMA_MAP or DMA_UNMAP. Otherwise as {@link answer}; other commands give undefined. */
export function begin(
  attachment: Attachment,
  command: number,
  payload: Uint8Array,
  fds: Fd[],
): LongCommand | undefined {
  if (command === Command.DMA_MAP) return dmaMap(attachment, payload, fds);
  if (command !== Command.DEVICE_RESET && command !== Command.DMA_UNMAP) return undefined;
  refuseFds(command, fds);
  if (command === Command.DMA_UNMAP) return dmaUnmap(attachment, payload);
  if (payload.length > 0) throw new VfioError("EINVAL", "DEVICE_RESET with a payload");
  return { steps: withinTime(attachment.reset(), RESET_TIMEOUT), reply: EMPTY };
}

function dmaUnmap(attachment: Attachment, payload: Uint8Array): LongCommand {
  const unmap = decodeDmaUnmap(payload);
  needArgsz(unmap.argsz, DMA_UNMAP_SIZE, Command.DMA_UNMAP);
  return { steps: attachment.unmapDma(unmap), reply: { payload: payload.slice(0, DMA_UNMAP_SIZE) } };
}

/** Closes descriptors that came with a command that takes none. @throws {VfioError} EINVAL when there were any */
export function refuseFds(command: number, fds: readonly Fd[]): void {
  for (const fd of fds) fd.close();
  if (fds.length > 0) throw new VfioError("EINVAL", `${commandName(command)} with ${fds.length} descriptors`);
}

/**
 * How many bytes of an access are there: all, unless its region clips.
 * @throws {VfioError} EINVAL for an access that is not allowed
 */
export function checkAccess(device: VfioDevice, index: number, offset: number, count: number, write: boolean): number {
  const region = device.regions[index];
  const left = region === undefined ? 0 : region.size - offset;
  if (region === undefined || count === 0 || left <= 0 || (left < count && region.clips !== true)) {
    throw new VfioError("EINVAL", `access of ${count} bytes at 0x${offset.toString(16)} in region ${index}`);
  }
  if (write ? !region.writable : !region.readable) {
    throw new VfioError("EINVAL", `region ${index} may not be ${write ? "written" : "read"}`);
  }
  return left < count ? left : count;
}

function needArgsz(argsz: number, size: number, command: number): void {
  if (argsz < size) throw new VfioError("EINVAL", `${commandName(command)} with argsz ${argsz}, ${size} are needed`);
}

function dmaMap(attachment: Attachment, payload: Uint8Array, fds: Fd[]): LongCommand {
  let map: ReturnType<typeof decodeDmaMap>;
  try {
    map = decodeDmaMap(payload);
    needArgsz(map.argsz, DMA_MAP_SIZE, Command.DMA_MAP);
  } catch (error) {
    for (const fd of fds) fd.close();
    throw error;
  }
  return { steps: attachment.mapDma(map, fds), reply: EMPTY };
}

function setIrqs(attachment: Attachment, payload: Uint8Array, fds: Fd[]): Reply {
  let set: ReturnType<typeof decodeIrqSet>;
  try {
    set = decodeIrqSet(payload);
  } catch (error) {
    for (const fd of fds) fd.close();
    throw error;
  }
  attachment.setIrqs(set, fds);
  return EMPTY;
}

function deviceInfo(device: VfioDevice, payload: Uint8Array): Reply {
  needArgsz(decodeDeviceInfo(payload).argsz, DEVICE_INFO_SIZE, Command.DEVICE_GET_INFO);
  return {
    payload: encodeDeviceInfo({
      argsz: DEVICE_INFO_SIZE,
      flags: VFIO_DEVICE_FLAGS_PCI | (device.reset === undefined ? 0 : VFIO_DEVICE_FLAGS_RESET),
      numRegions: Math.max(VFIO_PCI_NUM_REGIONS, device.regions.length),
      numIrqs: Math.max(VFIO_PCI_NUM_IRQS, device.irqs.length),
    }),
  };
}

function checkIndex(index: number, count: number, what: string): void {
  if (index >= count) throw new VfioError("EINVAL", `${what} ${index} of ${count}`);
}

function withoutMapping({ size, readable, writable, capabilities }: VfioRegion): VfioRegion {
  return { size, readable, writable, ...(capabilities !== undefined && { capabilities }) };
}

function capabilitiesOf(region: VfioRegion): RegionCapability[] {
  const areas = region.mapping?.areas;
  const capabilities = [...(region.capabilities ?? [])];
  if (areas === undefined) return capabilities;
  const sparse = areas.map(({ offset, size }) => ({ offset: BigInt(offset), size: BigInt(size) }));
  return [{ kind: "sparse-mmap", areas: sparse }, ...capabilities];
}

function regionInfo({ device, maxMsgFds }: Attachment, payload: Uint8Array): Reply {
  const { argsz, index } = decodeRegionInfo(payload.subarray(0, REGION_INFO_SIZE));
  needArgsz(argsz, REGION_INFO_SIZE, Command.DEVICE_GET_REGION_INFO);
  checkIndex(index, Math.max(VFIO_PCI_NUM_REGIONS, device.regions.length), "region");
  const described = device.regions[index];
  // A client that takes no descriptors has nothing to map.
  const region = maxMsgFds > 0 ? described : described && withoutMapping(described);
  const flags =
    (region?.readable ? VFIO_REGION_INFO_FLAG_READ : 0) |
    (region?.writable ? VFIO_REGION_INFO_FLAG_WRITE : 0) |
    (region?.mapping ? VFIO_REGION_INFO_FLAG_MMAP : 0);
  const info = {
    argsz: 0,
    flags,
    index,
    size: BigInt(region?.size ?? 0),
    offset: BigInt(region?.mapping?.offset ?? 0),
    capabilities: region === undefined ? [] : capabilitiesOf(region),
  };
  const reply = encodeRegionInfo(info, argsz);
  const needed = new DataView(reply.buffer).getUint32(0, true);
  // The descriptor goes with the reply that tells the whole story; the client asks again after a shortened one.
  return region?.mapping !== undefined && argsz >= needed
    ? { payload: reply, fds: [region.mapping.fd] }
    : { payload: reply };
}

function regionIoFds(attachment: Attachment, payload: Uint8Array): Reply {
  const { device } = attachment;
  const { argsz, flags, index, count } = decodeRegionIoFds(payload);
  needArgsz(argsz, REGION_IO_FDS_SIZE, Command.DEVICE_GET_REGION_IO_FDS);
  if (flags !== 0 || count !== 0) throw new VfioError("EINVAL", "DEVICE_GET_REGION_IO_FDS with flags or a count");
  checkIndex(index, Math.max(VFIO_PCI_NUM_REGIONS, device.regions.length), "region");
  const fds = attachment.ioeventfds(index);
  const subRegions = (device.regions[index]?.ioeventfds ?? [])
    .slice(0, fds.length)
    .map(({ offset, size, value }, fdIndex) => ({
      offset: BigInt(offset),
      size: BigInt(size),
      fdIndex,
      type: IO_FD_TYPE_IOEVENTFD,
      flags: value === undefined ? 0 : KVM_IOEVENTFD_FLAG_DATAMATCH,
      data: value ?? 0n,
    }));
  const needed = REGION_IO_FDS_SIZE + SUB_REGION_SIZE * subRegions.length;
  const reply = encodeRegionIoFds({ argsz: needed, flags: 0, index, count: subRegions.length, subRegions }, argsz);
  return argsz >= needed ? { payload: reply, fds: fds.map((fd) => fd.number) } : { payload: reply };
}

function irqInfo(device: VfioDevice, payload: Uint8Array): Reply {
  const { argsz, index } = decodeIrqInfo(payload);
  needArgsz(argsz, IRQ_INFO_SIZE, Command.DEVICE_GET_IRQ_INFO);
  checkIndex(index, Math.max(VFIO_PCI_NUM_IRQS, device.irqs.length), "irq");
  const irq = device.irqs[index];
  return { payload: encodeIrqInfo({ argsz: IRQ_INFO_SIZE, flags: irq?.flags ?? 0, index, count: irq?.count ?? 0 }) };
}

function writeMulti(device: VfioDevice, payload: Uint8Array): Reply {
  const writes = decodeWriteMulti(payload);
  // All or nothing: a client cannot tell which of them failed.
  const counts = writes.map(({ region, offset, data }) => {
    if (offset > Number.MAX_SAFE_INTEGER) throw new VfioError("EINVAL", `write at 0x${offset.toString(16)}`);
    return checkAccess(device, region, Number(offset), data.length, true);
  });
  for (const [index, { region, offset, data }] of writes.entries()) {
    device.write(region, Number(offset), data.subarray(0, counts[index]));
  }
  return { payload: encodeWriteMultiReply(writes.length) };
}
