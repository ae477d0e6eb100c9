/**
 * QEMU's edu device (docs/specs/edu.rst in qemu/qemu) by linkfence's own kernel VFIO: DMA through both windows of POWER9's
 * IOMMU, what it refuses, an interrupt, a reset; and that nothing is left.
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { KernelContainer } from "/linkfence/dist/host/vfio/kernel_container.js";
import { createEventfd, createMemfd, drainEventfd, libc, Mapping } from "/linkfence/dist/os/index.js";
import { runToEnd, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_MSI_IRQ_INDEX } from "/linkfence/dist/vfio/index.js";
import { COMMAND_BUS_MASTER, COMMAND_MEMORY, PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status } from "/linkfence/guest/report.mjs";

const COMMAND = 4;
const BAR0 = 0;
const Register = {
  IDENTIFICATION: 0,
  RAISE: 0x60,
  ACKNOWLEDGE: 0x64,
  SOURCE: 0x80,
  DESTINATION: 0x88,
  COUNT: 0x90,
  DMA: 0x98,
};
const START = 1n;
const TO_MEMORY = 2n;
/** The device's own memory. */
const BUFFER = 0x40000n;
const SIZE = 0x10000;
const SECOND_WINDOW = 1n << 59n;

function sleep(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** What this process has pinned for the IOMMU, its tables included, in KiB: powernv counts it as locked. */
function lockedKib() {
  return Number(/^VmLck:\s*(\d+) kB$/m.exec(readFileSync("/proc/self/status", "utf8"))[1]);
}

/** The device's registers are big-endian: it has the byte order that QEMU gives to the architecture. */
class Edu {
  constructor(device) {
    this.device = device;
    const command = new Uint8Array(2);
    device.read(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, command);
    command[0] |= COMMAND_MEMORY | COMMAND_BUS_MASTER;
    device.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, command);
  }

  read32(register) {
    const data = Buffer.alloc(4);
    this.device.read(BAR0, register, data);
    return data.readUInt32BE();
  }

  write32(register, value) {
    const data = Buffer.alloc(4);
    data.writeUInt32BE(value);
    this.device.write(BAR0, register, data);
  }

  read64(register) {
    const data = Buffer.alloc(8);
    this.device.read(BAR0, register, data);
    return data.readBigUInt64BE();
  }

  write64(register, value) {
    const data = Buffer.alloc(8);
    data.writeBigUInt64BE(value);
    this.device.write(BAR0, register, data);
  }

  /** Copies between addresses of the bus and its own memory, which takes it 100 ms. */
  copy(source, destination, count, direction) {
    this.write64(Register.SOURCE, source);
    this.write64(Register.DESTINATION, destination);
    this.write64(Register.COUNT, BigInt(count));
    this.write64(Register.DMA, START | direction);
    for (let wait = 0; wait < 200 && (this.read64(Register.DMA) & START) !== 0n; wait++) sleep(10);
    assert.equal(this.read64(Register.DMA) & START, 0n, "DMA does not end");
  }

  fromMemory(address, count) {
    this.copy(address, BUFFER, count, 0n);
  }

  toMemory(address, count) {
    this.copy(BUFFER, address, count, TO_MEMORY);
  }
}

const pci = PciFunction.find(0x1234, 0x11e8);
const container = new KernelContainer({ policy: "separate", pageSize: libc().getpagesize() });
const fd = createMemfd("guest memory", 4 * SIZE);
const mapping = new Mapping(fd, 0, 4 * SIZE, "read-write");
const memory = Buffer.from(mapping.bytes.buffer, mapping.bytes.byteOffset, mapping.length);
let device;
let edu;

/** A piece of the memory, as a client shares it. */
function range(address, piece = 0) {
  const file = { fd: fd.number, offset: BigInt(piece * SIZE), id: "guest memory" };
  return { address, size: BigInt(SIZE), file, readable: true, writable: true };
}

function map(...args) {
  runToEnd(container.map(range(...args)));
}

function unmap(...args) {
  container.unmap(range(...args));
  runToEnd(container.settle());
}

/** Bytes that differ from each other and from one call to the next. */
let seed = 1;
function fillWithNoise(bytes) {
  for (let at = 0; at < bytes.length; at++) {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    bytes[at] = seed >>> 16;
  }
}

/** DMA to and from a range: what the device reads at its start has to be what it then writes to its end. */
function checkDma(address, piece) {
  const part = memory.subarray(piece * SIZE, (piece + 1) * SIZE);
  const [source, destination] = [part.subarray(0, 4096), part.subarray(SIZE - 4096)];
  map(address, piece);
  fillWithNoise(part);
  const before = Buffer.from(source);
  edu.fromMemory(address, 4096);
  source.fill(0);
  edu.toMemory(address + BigInt(SIZE - 4096), 4096);
  assert.ok(destination.equals(before), "what the device wrote is not what it read");
  assert.ok(
    part.subarray(4096, SIZE - 4096).some((byte) => byte !== 0),
    "it wrote elsewhere, too",
  );
  unmap(address, piece);
  const after = Buffer.from(destination.fill(0x5a));
  edu.toMemory(address + BigInt(SIZE - 4096), 4096);
  assert.ok(destination.equals(after), "the device reaches memory that was taken back");
  return `4096 bytes each way at 0x${address.toString(16)}, none once it is unmapped`;
}

await check("opened", () => {
  pci.bind("vfio-pci");
  device = runToEnd(container.open(pci.address));
  edu = new Edu(device);
  const identification = edu.read32(Register.IDENTIFICATION);
  assert.equal(identification & 0xff, 0xed);
  return `${pci.address}, 0x${identification.toString(16)}`;
});
await check("DMA in the first window", () => checkDma(0x10000n, 0));
await check("DMA in the second window", () => {
  map(0x100000n, 3);
  const without = lockedKib();
  const detail = checkDma(SECOND_WINDOW + 0x20000n, 1);
  assert.equal(lockedKib(), without, "the window's table is still there");
  map(SECOND_WINDOW, 2);
  const table = lockedKib() - without - SIZE / 1024;
  assert.ok(table > 0, "no table was made");
  unmap(SECOND_WINDOW, 2);
  unmap(0x100000n, 3);
  return `${detail}; its table counts for ${table} KiB while a range is in it`;
});
await check("what is refused", () => {
  const refused = (code, ...args) => assert.throws(() => map(...args), { code });
  refused("ENXIO", 0x7fff_8000n);
  refused("ENXIO", 0x8000_0000n);
  refused("ENXIO", SECOND_WINDOW - 0x8000n);
  refused("ENXIO", SECOND_WINDOW + (1n << 50n));
  map(0x10000n, 0);
  refused("EEXIST", 0x18000n, 1);
  unmap(0x10000n, 0);
  try {
    map(0x8000_0000n);
  } catch (error) {
    return error.message;
  }
});
await check("MSI", () => {
  const eventfd = createEventfd();
  const set = { index: VFIO_PCI_MSI_IRQ_INDEX, start: 0, count: 1, action: "trigger", data: { kind: "eventfd" } };
  device.setIrqs(set, [eventfd.number]);
  edu.write32(Register.RAISE, 1);
  let count = 0n;
  for (let wait = 0; wait < 200 && count === 0n; wait++) {
    sleep(10);
    count = drainEventfd(eventfd);
  }
  edu.write32(Register.ACKNOWLEDGE, 1);
  eventfd.close();
  assert.equal(count, 1n);
});
await check("reset", () => {
  const start = performance.now();
  runToEnd(device.reset());
  return `${((performance.now() - start) / 1000).toFixed(1)} s`;
});
await check("nothing is left", () => {
  map(0x10000n, 0);
  map(SECOND_WINDOW, 1);
  container.close();
  const held = () =>
    readdirSync("/proc/self/fd")
      .map((name) => {
        try {
          return readlinkSync(`/proc/self/fd/${name}`);
        } catch {
          return "";
        }
      })
      .filter((path) => /vfio/.test(path));
  for (let wait = 0; wait < 1000 && held().length > 0; wait++) sleep(10);
  assert.deepEqual(held(), []);
  assert.equal(lockedKib(), 0);
  pci.unbind();
});
process.exitCode = status();
