import { openSync, readlinkSync } from "node:fs";
import { basename } from "node:path";
import { Fd, ioctl, Mapping, NativeMemory, preadInto, pwriteFrom } from "/linkfence/dist/os/index.js";
import {
  decodeDeviceInfo,
  decodeIrqInfo,
  decodeRegionInfo,
  encodeIrqSet,
  VFIO_PCI_CONFIG_REGION_INDEX,
} from "/linkfence/dist/vfio/index.js";

/** linux/vfio.h: _IO(';', 100 + n) */
const request = (n) => 0x3b64 + n;
const VFIO_SET_IOMMU = request(2);
const VFIO_GROUP_GET_STATUS = request(3);
const VFIO_GROUP_SET_CONTAINER = request(4);
const VFIO_GROUP_GET_DEVICE_FD = request(6);
const VFIO_DEVICE_GET_INFO = request(7);
const VFIO_DEVICE_GET_REGION_INFO = request(8);
const VFIO_DEVICE_GET_IRQ_INFO = request(9);
const VFIO_DEVICE_SET_IRQS = request(10);
const VFIO_DEVICE_RESET = request(11);
const VFIO_IOMMU_MAP_DMA = request(13);
const VFIO_TYPE1V2_IOMMU = 3;
const VFIO_GROUP_FLAGS_VIABLE = 1;
const INFO_ROOM = 256;

/** A function that the guest's vfio-pci has, in a container of its own. */
export class VfioFunction {
  #container = new Fd(openSync("/dev/vfio/vfio", "r+"));
  #group;
  #device;
  #regions = new Map();

  constructor(pci) {
    const group = basename(readlinkSync(`${pci.folder}/iommu_group`));
    this.#group = new Fd(openSync(`/dev/vfio/${group}`, "r+"));
    const status = words(8, 0);
    ioctl(this.#group, VFIO_GROUP_GET_STATUS, status.address, "VFIO_GROUP_GET_STATUS");
    if ((status.view.getUint32(4, true) & VFIO_GROUP_FLAGS_VIABLE) === 0)
      throw new Error(`group ${group} is not viable`);
    const container = words(this.#container.number);
    ioctl(this.#group, VFIO_GROUP_SET_CONTAINER, container.address, "VFIO_GROUP_SET_CONTAINER");
    ioctl(this.#container, VFIO_SET_IOMMU, VFIO_TYPE1V2_IOMMU, "VFIO_SET_IOMMU");
    const name = new NativeMemory(32);
    name.bytes.set(Buffer.from(pci.address));
    this.#device = new Fd(ioctl(this.#group, VFIO_GROUP_GET_DEVICE_FD, name.address, "VFIO_GROUP_GET_DEVICE_FD"));
  }

  /** Number of its device's descriptor, which stays its own. */
  get fd() {
    return this.#device.number;
  }

  info() {
    return decodeDeviceInfo(this.#get(VFIO_DEVICE_GET_INFO, "VFIO_DEVICE_GET_INFO", 0));
  }

  region(index) {
    const known = this.#regions.get(index);
    if (known !== undefined) return known;
    const region = decodeRegionInfo(this.#get(VFIO_DEVICE_GET_REGION_INFO, "VFIO_DEVICE_GET_REGION_INFO", index));
    this.#regions.set(index, region);
    return region;
  }

  irq(index) {
    return decodeIrqInfo(this.#get(VFIO_DEVICE_GET_IRQ_INFO, "VFIO_DEVICE_GET_IRQ_INFO", index));
  }

  /** Reads a register of 1, 2, 4 or 8 bytes. */
  read(index, offset, size) {
    const memory = new NativeMemory(8);
    preadInto(this.#device, memory.address, size, Number(this.region(index).offset) + offset);
    return Number(memory.view.getBigUint64(0, true));
  }

  write(index, offset, size, value) {
    const memory = new NativeMemory(8);
    memory.view.setBigUint64(0, BigInt(value), true);
    pwriteFrom(this.#device, memory.address, size, Number(this.region(index).offset) + offset);
  }

  /** Sets bits of the command register. */
  setCommand(bits) {
    const command = this.read(VFIO_PCI_CONFIG_REGION_INDEX, 4, 2);
    this.write(VFIO_PCI_CONFIG_REGION_INDEX, 4, 2, command | bits);
  }

  /** Maps a whole region. */
  map(index) {
    const { size, offset } = this.region(index);
    return new Mapping(this.#device, Number(offset), Number(size), "read-write");
  }

  /** Lets the device reach a mapping at `iova`. */
  mapDma(mapping, iova) {
    const map = words(32, 3);
    map.view.setBigUint64(8, BigInt(mapping.address), true);
    map.view.setBigUint64(16, BigInt(iova), true);
    map.view.setBigUint64(24, BigInt(mapping.length), true);
    ioctl(this.#container, VFIO_IOMMU_MAP_DMA, map.address, "VFIO_IOMMU_MAP_DMA");
  }

  /** Has the interrupts of an index, from the first on, signal these eventfds. */
  listen(index, eventfds) {
    this.#setIrqs({ index, start: 0, count: eventfds.length, action: "trigger", data: { kind: "eventfd" } }, eventfds);
  }

  /** Unmasks the first interrupt of an index. */
  unmask(index) {
    this.#setIrqs({ index, start: 0, count: 1, action: "unmask", data: { kind: "none" } });
  }

  /** Switches all interrupts of an index off. */
  silence(index) {
    this.#setIrqs({ index, start: 0, count: 0, action: "trigger", data: { kind: "none" } });
  }

  reset() {
    ioctl(this.#device, VFIO_DEVICE_RESET, 0, "VFIO_DEVICE_RESET");
  }

  close() {
    this.#device.close();
    this.#group.close();
    this.#container.close();
  }

  #setIrqs(set, eventfds = []) {
    const head = encodeIrqSet(set);
    const memory = new NativeMemory(head.length + 4 * eventfds.length);
    memory.bytes.set(head);
    memory.view.setUint32(0, memory.bytes.length, true);
    for (const [at, fd] of eventfds.entries()) memory.view.setInt32(head.length + 4 * at, fd.number, true);
    ioctl(this.#device, VFIO_DEVICE_SET_IRQS, memory.address, "VFIO_DEVICE_SET_IRQS");
  }

  #get(code, name, index) {
    const memory = words(INFO_ROOM, 0, index, ...new Array(INFO_ROOM / 4 - 3).fill(0));
    ioctl(this.#device, code, memory.address, name);
    return memory.bytes;
  }
}

/** Memory with these 32-bit values in it, 32 bytes at least. */
function words(...values) {
  const memory = new NativeMemory(Math.max(32, 4 * values.length));
  for (const [index, value] of values.entries()) memory.view.setUint32(4 * index, value, true);
  return memory;
}
