// What a driver does with a function of VFIO's, whoever has it: a `KernelDevice`, or the client of one that is served.
import assert from "node:assert/strict";
import { createMemfd, drainEventfd, Mapping, POLLIN, pollOne } from "/linkfence/dist/os/index.js";
import { VFIO_PCI_CONFIG_REGION_INDEX } from "/linkfence/dist/vfio/index.js";

/** Milliseconds; the guest is emulated, and its machine may be busy. */
export const PATIENCE = 10_000;
export const PAGE = 4096;
const COMMAND = 4;

/** A function that is served, with the calls of a `VfioDevice`. */
export class ClientDevice {
  constructor(client) {
    this.client = client;
  }

  read(region, offset, data) {
    data.set(this.client.read(region, offset, data.length));
  }

  write(region, offset, data) {
    this.client.write(region, offset, data);
  }

  setIrqs(set, eventfds) {
    this.client.setIrqs(
      set,
      eventfds.map((number) => ({ number })),
    );
  }
}

/** Reads a register of 1, 2, 4 or 8 bytes, or writes it where there is a value. */
export function register(device, region, offset, size, value) {
  const data = Buffer.alloc(8);
  if (value === undefined) {
    device.read(region, offset, data.subarray(0, size));
    return Number(data.readBigUInt64LE());
  }
  data.writeBigUInt64LE(BigInt(value));
  device.write(region, offset, data.subarray(0, size));
  return value;
}

/** A device's BAR0, as the drivers here want it. */
export function bar0(device) {
  return (offset, size, value) => register(device, 0, offset, size, value);
}

/** Sets bits of the command register. */
export function setCommand(device, bits) {
  const command = register(device, VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, 2);
  register(device, VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, 2, command | bits);
}

/** Has the interrupts of an index, from the first on, signal these eventfds. */
export function listen(device, index, eventfds) {
  const set = { index, start: 0, count: eventfds.length, action: "trigger", data: { kind: "eventfd" } };
  device.setIrqs(
    set,
    eventfds.map((fd) => fd.number),
  );
}

/** Switches all interrupts of an index off. */
export function silence(device, index) {
  device.setIrqs({ index, start: 0, count: 0, action: "trigger", data: { kind: "none" } }, []);
}

/** Waits for an interrupt: exactly one. */
export function arrives(event, why) {
  assert.equal(pollOne(event, POLLIN, PATIENCE), POLLIN, why);
  assert.equal(drainEventfd(event), 1n);
}

/** A client's memory: a file, and the range of it that devices are to reach. */
export class ClientMemory {
  constructor(pages, iova) {
    this.fd = createMemfd("client", pages * PAGE);
    this.mapping = new Mapping(this.fd, 0, pages * PAGE, "read-write");
    this.bytes = this.mapping.bytes;
    const file = { fd: this.fd.number, offset: 0n, id: `memory ${iova}` };
    this.range = { address: iova, size: BigInt(pages * PAGE), file, readable: true, writable: true };
  }

  close() {
    this.mapping.unmap();
    this.fd.close();
  }
}
