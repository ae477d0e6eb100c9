// Runs in the guest: what a driver of the example device (examples/copy_engine.ts) does, and checks what comes of it.
// Usage: node copy_engine_guest.mjs PART...
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, readFileSync, readSync } from "node:fs";
import { createEventfd, createMemfd, drainEventfd, Fd, Mapping, POLLIN, pollOne } from "/linkfence/dist/os/index.js";
import {
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_REGION_INFO_FLAG_MMAP,
} from "/linkfence/dist/vfio/index.js";
import {
  COMMAND_BUS_MASTER,
  COMMAND_INTERRUPT_DISABLE,
  COMMAND_MEMORY,
  PciFunction,
} from "/linkfence/guest/pci_function.mjs";
import { check, result, status, step } from "/linkfence/guest/report.mjs";
import { VfioFunction } from "/linkfence/guest/vfio_function.mjs";

const VENDOR = 0x1234;
const DEVICE = 0x4c46;
const ID_VALUE = 0x4c464345;
/** BAR0's registers, in bytes. */
const ID = 0x00;
const SCRATCH = 0x04;
const ADDRESS = 0x08;
const LENGTH = 0x10;
const COMMAND = 0x14;
const OFFSET = 0x18;
const STATUS = 0x1c;
const ACK = 0x20;
const DOORBELL = 0x24;
const MSIX_TABLE = 0x800;
const READ_GUEST = 1;
const WRITE_GUEST = 2;
const ONLY_INTERRUPT = 3;
const DONE = 2;
const FAILED = 3;
const REGISTERS_SIZE = 4096;
const MEMORY_SIZE = 1 << 20;
const PAGE = 4096;
const MSIX_CAPABILITY = 0x11;
/** Milliseconds; the guest is emulated, and its machine may be busy. */
const PATIENCE = 10_000;

const pci = PciFunction.find(VENDOR, DEVICE);

/** Registers in mapped memory. Typed arrays touch them with one access of the right width; a DataView goes byte by byte. */
class MappedRegisters {
  constructor(mapping) {
    this.words = new Uint32Array(mapping.bytes.buffer);
    this.shorts = new Uint16Array(mapping.bytes.buffer);
    this.bytes = new Uint8Array(mapping.bytes.buffer);
    this.longs = new BigUint64Array(mapping.bytes.buffer);
  }
  get(offset) {
    return this.words[offset / 4];
  }
  set(offset, value) {
    this.words[offset / 4] = value;
  }
}

/** The same through VFIO's region reads and writes. */
class VfioRegisters {
  constructor(vfio) {
    this.vfio = vfio;
  }
  get(offset) {
    return this.vfio.read(0, offset, 4);
  }
  set(offset, value) {
    this.vfio.write(0, offset, 4, value);
  }
}

function pause(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** Waits until something is there, and has it. */
function until(look, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const found = look();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} does not come`);
    pause(5);
  }
}

/** Has the device begin a command. */
function start(registers, command, { address = 0, length = 0, offset = 0 } = {}) {
  registers.set(ADDRESS, Number(BigInt(address) & 0xffffffffn));
  registers.set(ADDRESS + 4, Number(BigInt(address) >> 32n));
  registers.set(LENGTH, length);
  registers.set(OFFSET, offset);
  registers.set(COMMAND, command);
}

/**
 * Carries out commands and waits for the interrupt at their end. Polling the status instead would be a trap: each access to
 * a BAR makes QEMU take a line interrupt for handled and lower it; a device that still has it up raises it again, and when
 * that arrives after the acknowledgement, the guest has an interrupt that nobody owns.
 */
class Engine {
  constructor(registers, awaitInterrupt) {
    this.registers = registers;
    this.awaitInterrupt = awaitInterrupt;
  }

  /** Has the device carry out a command; its status afterwards. */
  run(command, operands) {
    start(this.registers, command, operands);
    this.awaitInterrupt();
    return this.registers.get(STATUS);
  }
}

function pattern(length, seed) {
  return Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 8) + seed) & 0xff);
}

/** Guest memory to the device and back to another place, and checked there; `at` has the addresses for the device. */
function checkDma(engine, memory, at, length) {
  const sent = pattern(length, 3);
  memory.bytes.fill(0);
  memory.bytes.set(sent);
  assert.equal(engine.run(READ_GUEST, { address: at(0), length, offset: 0x4000 }), DONE);
  assert.equal(engine.run(WRITE_GUEST, { address: at(length), length, offset: 0x4000 }), DONE);
  const wrong = sent.findIndex((byte, index) => memory.bytes[length + index] !== byte);
  assert.equal(wrong, -1, `byte ${wrong} that came back is not the one that was sent`);
  // Not a byte more than asked for.
  assert.ok(memory.bytes.subarray(2 * length).every((byte) => byte === 0));
  return `${length} bytes there and back`;
}

/** What the kernel counted for interrupts whose line has `word`, and such a line. */
function counted(word) {
  const lines = readFileSync("/proc/interrupts", "utf8").split("\n");
  const line = lines.find((text) => text.includes(word));
  assert.ok(line, `no ${word} in /proc/interrupts`);
  return { count: Number(line.trim().split(/\s+/)[1]), line: line.trim().replace(/\s+/g, " ") };
}

/** Where the guest's physical memory has a page of this process (proc/PID/pagemap; the kernel's pagemap.rst). */
function physicalAddress(address) {
  const entry = Buffer.alloc(8);
  const fd = openSync("/proc/self/pagemap", "r");
  readSync(fd, entry, 0, 8, (address / PAGE) * 8);
  closeSync(fd);
  const value = entry.readBigUInt64LE();
  assert.ok(value >> 63n, "the page is not there");
  return (value & ((1n << 55n) - 1n)) * BigInt(PAGE);
}

async function config() {
  result("config", pci.readConfig(0, 256).toString("hex"));
  const lspci = spawnSync("lspci", ["-vv", "-s", pci.address]);
  result("lspci", lspci.stdout.toString("base64"));
}

async function bars() {
  pci.command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
  const registers = new MappedRegisters(pci.mapBar(0, REGISTERS_SIZE));
  await check("registers", () => {
    assert.equal(registers.get(ID), ID_VALUE);
    registers.set(ID, 1);
    assert.equal(registers.get(ID), ID_VALUE, "ID is read only");
    registers.set(SCRATCH, 0xfedcba98);
    assert.equal(registers.get(SCRATCH), 0xfedcba98);
    registers.bytes[SCRATCH + 1] = 0x11;
    registers.shorts[(SCRATCH + 2) / 2] = 0x2233;
    assert.equal(registers.get(SCRATCH), 0x22331198, "writes of 1 and 2 bytes");
    registers.longs[ADDRESS / 8] = 0x123456789abcdef0n;
    assert.deepEqual([registers.get(ADDRESS), registers.get(ADDRESS + 4)], [0x9abcdef0, 0x12345678], "of 8 bytes");
    return "reads and writes of 1, 2, 4 and 8 bytes";
  });
  await check("trapped", () => {
    const before = registers.get(DOORBELL);
    for (let count = 0; count < 100; count++) registers.set(DOORBELL, count);
    assert.equal(registers.get(DOORBELL) - before, 100);
    return "100 writes to a doorbell, the device counted 100";
  });
  await check("mapped", () => {
    const memory = pci.mapBar(2, MEMORY_SIZE).bytes;
    const sent = pattern(MEMORY_SIZE, 1);
    memory.set(sent);
    assert.equal(Buffer.compare(memory, sent), 0, "what was written is not what is read");
    memory.set(Buffer.from("from the guest"), 0x8000);
    step("mapped");
    const answer = Buffer.from(memory.slice(0x9000, 0x900d));
    assert.ok(answer.equals(Buffer.from("from the host")), "what the server's side wrote is not there");
    return "1 MiB written and read, the server's memory is the same both ways";
  });
}

async function reset() {
  pci.command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
  const registers = new MappedRegisters(pci.mapBar(0, REGISTERS_SIZE));
  const memory = pci.mapBar(2, MEMORY_SIZE).bytes;
  await check("reset", () => {
    registers.set(SCRATCH, 0x5eed);
    memory[5] = 7;
    const before = pci.readConfig(0, 64).toString("hex");
    pci.write("reset", "1");
    assert.equal(pci.readConfig(0, 64).toString("hex"), before, "config space is restored");
    assert.deepEqual([registers.get(ID), registers.get(SCRATCH), memory[5]], [ID_VALUE, 0, 0]);
    return `by ${pci.read("reset_method")}`;
  });
}

/**
 * Without an IOMMU: DMA to physical addresses, and the line interrupt by uio_pci_generic, which masks it in the function's
 * command register.
 */
async function uio() {
  pci.bind("uio_pci_generic");
  const events = new Fd(openSync("/dev/uio0", "r"));
  pci.command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
  const registers = new MappedRegisters(pci.mapBar(0, REGISTERS_SIZE));
  let interrupts = 0;
  const engine = new Engine(registers, () => {
    assert.equal(pollOne(events, POLLIN, PATIENCE), POLLIN, "the interrupt does not come");
    const count = Buffer.alloc(4);
    readSync(events.number, count, 0, 4, null);
    assert.equal(count.readUInt32LE(), ++interrupts);
    registers.set(ACK, 1);
    pci.command &= ~COMMAND_INTERRUPT_DISABLE;
  });
  await check("intx", () => {
    for (let round = 0; round < 3; round++) assert.equal(engine.run(ONLY_INTERRUPT), DONE);
    const { count, line } = counted("uio_pci_generic");
    assert.equal(count, interrupts);
    return line;
  });
  await check("dma", () => {
    const memory = new Mapping(createMemfd("dma", PAGE), 0, PAGE, "read-write");
    memory.bytes.fill(0);
    const first = physicalAddress(memory.address);
    return checkDma(engine, memory, (offset) => first + BigInt(offset), 1500);
  });
  await check("dma to nowhere", () => {
    assert.equal(engine.run(READ_GUEST, { address: 0xf000_0000_0000n, length: 16 }), FAILED);
    return "fails";
  });
  events.close();
  pci.unbind();
}

/**
 * Without an IOMMU no driver of a stock kernel gives user space MSI-X, so this programs the table itself, with a vector
 * that nobody has: the kernel says that it got an interrupt on it.
 */
async function rawMsix() {
  pci.command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
  const registers = new MappedRegisters(pci.mapBar(0, REGISTERS_SIZE));
  await check("msi-x", () => {
    const vector = 0xd3;
    const control = pci.capability(MSIX_CAPABILITY) + 2;
    // To the first processor's local APIC, edge triggered, fixed delivery.
    for (const [index, value] of [0xfee00000, 0, vector, 0].entries()) registers.set(MSIX_TABLE + 4 * index, value);
    pci.writeConfig16(control, 0x8000);
    let line = "";
    const look = () => /No irq handler for.*/.exec(spawnSync("dmesg").stdout.toString());
    const engine = new Engine(registers, () => {
      [line] = until(look, "the interrupt");
    });
    assert.equal(engine.run(ONLY_INTERRUPT), DONE);
    pci.writeConfig16(control, 0);
    assert.match(line, new RegExp(`\\b0\\.${vector}\\b`));
    return `the kernel says: ${line}`;
  });
}

/** With an IOMMU: all of it through the guest's own vfio-pci. */
async function vfio() {
  pci.bind("vfio-pci");
  const device = new VfioFunction(pci);
  device.setCommand(COMMAND_MEMORY | COMMAND_BUS_MASTER);
  const registers = new VfioRegisters(device);
  await check("vfio", () => {
    const info = device.info();
    assert.deepEqual([info.numRegions, info.numIrqs], [9, 5]);
    assert.equal(device.region(0).size, BigInt(REGISTERS_SIZE));
    assert.equal(device.region(2).size, BigInt(MEMORY_SIZE));
    assert.ok(device.region(2).flags & VFIO_REGION_INFO_FLAG_MMAP);
    assert.equal(device.irq(VFIO_PCI_MSIX_IRQ_INDEX).count, 2);
    assert.equal(device.irq(VFIO_PCI_INTX_IRQ_INDEX).count, 1);
    assert.equal(registers.get(ID), ID_VALUE);
    const memory = device.map(2);
    memory.bytes.set(Buffer.from("through vfio"), 64);
    assert.equal(Buffer.from(memory.bytes.slice(64, 76)).toString(), "through vfio");
    memory.unmap();
    return "regions, interrupts, registers and mapped memory";
  });
  const arrives = (event, why) => {
    assert.equal(pollOne(event, POLLIN, PATIENCE), POLLIN, why);
    assert.equal(drainEventfd(event), 1n);
  };
  const vectors = [createEventfd(), createEventfd()];
  device.listen(VFIO_PCI_MSIX_IRQ_INDEX, vectors);
  const engine = new Engine(registers, () => arrives(vectors[0], "the interrupt does not come"));
  await check("msi-x", () => {
    for (let round = 0; round < 3; round++) assert.equal(engine.run(ONLY_INTERRUPT), DONE);
    assert.equal(drainEventfd(vectors[1]), 0n, "the other vector stays silent");
    const { count, line } = counted("vfio-msix[0]");
    assert.equal(count, 3);
    return line;
  });
  await check("dma", () => {
    const iova = 0x10_0000;
    const memory = new Mapping(createMemfd("dma", 16 * PAGE), 0, 16 * PAGE, "read-write");
    device.mapDma(memory, iova);
    return checkDma(engine, memory, (offset) => iova + offset, 5 * PAGE + 123);
  });
  await check("dma to nowhere", () => {
    assert.equal(engine.run(WRITE_GUEST, { address: 0x4000_0000, length: 16 }), FAILED);
    return "fails";
  });
  device.silence(VFIO_PCI_MSIX_IRQ_INDEX);
  await check("intx", () => {
    const event = createEventfd();
    device.listen(VFIO_PCI_INTX_IRQ_INDEX, [event]);
    start(registers, ONLY_INTERRUPT);
    arrives(event, "the interrupt does not come");
    device.unmask(VFIO_PCI_INTX_IRQ_INDEX);
    arrives(event, "a line that is still up does not interrupt again");
    registers.set(ACK, 1);
    device.unmask(VFIO_PCI_INTX_IRQ_INDEX);
    pause(200);
    assert.equal(drainEventfd(event), 0n, "a line that is down interrupts");
    start(registers, ONLY_INTERRUPT);
    arrives(event, "the next interrupt does not come");
    registers.set(ACK, 1);
    assert.equal(registers.get(STATUS), DONE);
    const { line } = counted("vfio-intx");
    device.silence(VFIO_PCI_INTX_IRQ_INDEX);
    event.close();
    return line;
  });
  await check("vfio reset", () => {
    registers.set(SCRATCH, 0x5eed);
    device.reset();
    device.setCommand(COMMAND_MEMORY);
    assert.equal(registers.get(SCRATCH), 0);
  });
  for (const vector of vectors) vector.close();
  device.close();
  pci.unbind();
}

/** After the harness has killed the server. */
async function orphan() {
  pci.command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
  const registers = new MappedRegisters(pci.mapBar(0, REGISTERS_SIZE));
  registers.set(SCRATCH, 1);
  step("kill the server");
  await check("without a server", () => {
    const value = registers.get(SCRATCH);
    registers.set(SCRATCH, 2);
    return `the guest lives, a register reads 0x${value.toString(16)}`;
  });
}

const PARTS = { config, bars, reset, uio, rawMsix, vfio, orphan };
for (const part of process.argv.slice(2)) {
  await check(`part ${part}`, PARTS[part]);
}
process.exit(status());
