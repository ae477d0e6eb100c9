// Runs in the guest: opens functions by the kernel's VFIO as linkfence does, and drives them.
// Usage: node kernel_vfio_guest.mjs PART...
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { KernelContainer } from "/linkfence/dist/host/vfio/kernel_container.js";
import { memlockLimit } from "/linkfence/dist/host/vfio/memlock_limit.js";
import {
  createEventfd,
  createMemfd,
  libc,
  Mapping,
  NativeMemory,
  POLLIN,
  Poller,
  pollOne,
} from "/linkfence/dist/os/index.js";
import {
  runToEnd,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_ERR_IRQ_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_PCI_REQ_IRQ_INDEX,
} from "/linkfence/dist/vfio/index.js";
import {
  arrives,
  bar0,
  ClientMemory,
  listen,
  PAGE,
  PATIENCE,
  register,
  setCommand,
} from "/linkfence/guest/driven_device.mjs";
import { EDU_IDS, Edu } from "/linkfence/guest/edu.mjs";
import { identify, NVME_IDS } from "/linkfence/guest/nvme.mjs";
import { COMMAND_BUS_MASTER, COMMAND_MEMORY, PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status } from "/linkfence/guest/report.mjs";

const COMMAND = 4;
/** Where these functions see memory: within edu's 28 address bits. */
const IOVA = 0x10_0000n;

const [edu, pairA, pairB, sharing] = PciFunction.findAll(...EDU_IDS);
const [nvme, foreign] = PciFunction.findAll(...NVME_IDS);

const dmesg = () => spawnSync("dmesg").stdout.toString();

function bindAll(...functions) {
  for (const each of functions) if (each !== undefined) each.bind("vfio-pci");
}

async function group() {
  await check("a group that the host uses", () => {
    sharing.bind("vfio-pci");
    const container = new KernelContainer({ policy: "separate", pageSize: PAGE });
    let message = "";
    try {
      runToEnd(container.open(sharing.address));
    } catch (error) {
      assert.equal(error.code, "EVFIO");
      message = error.message;
    }
    container.close();
    assert.ok(message.includes(`${foreign.address} (nvme)`), message);
    return message;
  });
  await check("a function that vfio-pci has not", () => {
    const container = new KernelContainer({ policy: "separate", pageSize: PAGE });
    assert.throws(() => runToEnd(container.open(edu.address)), /is not with vfio-pci/);
    assert.throws(() => runToEnd(container.open("0000:7f:00.0")), { code: "EGONE" });
    container.close();
  });
}

async function devices() {
  nvme.unbind();
  bindAll(edu, pairA, pairB, nvme);
  const notices = [];
  const onNotice = (device, notice) => notices.push(`${device.address} ${notice}`);
  const container = new KernelContainer({ policy: "separate", pageSize: PAGE, onNotice });
  const device = runToEnd(container.open(edu.address));
  const disk = runToEnd(container.open(nvme.address));
  await check("regions and interrupts", () => {
    assert.deepEqual([container.devices.size, device.regions[0].size, disk.regions[0].size], [2, 1 << 20, 16384]);
    assert.equal(device.irqs[VFIO_PCI_MSI_IRQ_INDEX].count, 1);
    assert.equal(device.irqs[VFIO_PCI_ERR_IRQ_INDEX], undefined, "no PCI Express");
    assert.notEqual(disk.irqs[VFIO_PCI_ERR_IRQ_INDEX], undefined);
    assert.ok(disk.irqs[VFIO_PCI_MSIX_IRQ_INDEX].count > 1);
    assert.equal(register(device, VFIO_PCI_CONFIG_REGION_INDEX, 0, 4), 0x11e81234);
    assert.throws(() => register(device, 0, (1 << 20) - 2, 4), { code: "EINVAL" });
    const list = (each) => each.regions.flatMap((region, index) => (region ? `${index}: ${region.mappedBy}` : []));
    return `edu ${list(device).join(", ")}; nvme ${list(disk).join(", ")}`;
  });
  setCommand(device, COMMAND_MEMORY | COMMAND_BUS_MASTER);
  setCommand(disk, COMMAND_MEMORY | COMMAND_BUS_MASTER);
  const engine = new Edu(bar0(device));
  await dma(container, engine);
  await interrupts(device, engine);
  const memory = new ClientMemory(4, 0x8000_0000n);
  const event = createEventfd();
  const switchOn = () => {
    setCommand(disk, COMMAND_MEMORY | COMMAND_BUS_MASTER);
    memory.bytes.fill(0);
    return identify(bar0(disk), memory.bytes, memory.range.address, () => arrives(event, "no MSI-X"));
  };
  await check("nvme identify", () => {
    runToEnd(container.map(memory.range));
    listen(disk, VFIO_PCI_MSIX_IRQ_INDEX, [event]);
    const { serial, model } = switchOn();
    assert.equal(serial, "linkfence-check");
    assert.match(readFileSync("/proc/interrupts", "utf8"), /vfio-msix\[0\]/);
    return `${model}, serial ${serial}, its end told by MSI-X`;
  });
  await resets(container, disk, switchOn);
  await check("the client is gone", () => {
    disk.close();
    device.close();
    assert.equal(register(disk, VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, 2) & COMMAND_BUS_MASTER, 0);
    assert.doesNotMatch(readFileSync("/proc/interrupts", "utf8"), /vfio-msix/);
    return "no interrupt is set up, and the function does no DMA";
  });
  await removal(container, device, notices);
  await check("closing", async () => {
    container.close();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const again = new KernelContainer({ policy: "trust-vmm", pageSize: PAGE });
    const other = runToEnd(again.open(nvme.address));
    assert.equal(other.regions[0].mappedBy, "device fd");
    setCommand(other, COMMAND_MEMORY);
    const { fd, offset } = other.regions[0].mapping;
    const mapped = new Mapping({ number: fd }, offset, PAGE, "read-write");
    const version = new Uint32Array(mapped.bytes.buffer)[2];
    assert.equal(version, register(other, 0, 8, 4));
    mapped.unmap();
    runToEnd(again.release(other));
    again.close();
    return `the group is free again; mapped through the device's file, NVMe version 0x${version.toString(16)}`;
  });
}

async function dma(container, engine) {
  const memory = new ClientMemory(8, IOVA);
  await check("dma", () => {
    runToEnd(container.map(memory.range));
    assert.equal(container.pinnedBytes, 8n * BigInt(PAGE));
    const sent = Uint8Array.from({ length: PAGE }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
    memory.bytes.set(sent, PAGE);
    engine.fromMemory(IOVA + BigInt(PAGE), PAGE);
    engine.toMemory(IOVA + BigInt(4 * PAGE), PAGE);
    assert.equal(
      Buffer.compare(memory.bytes.subarray(4 * PAGE, 5 * PAGE), sent),
      0,
      "what came back is not what was sent",
    );
    assert.ok(
      memory.bytes.subarray(5 * PAGE).every((byte) => byte === 0),
      "more than was asked for",
    );
    return `${PAGE} bytes there and back`;
  });
  await check("dma outside the maps", () => {
    const before = Buffer.from(memory.bytes);
    engine.toMemory(0x90_0000n, PAGE);
    assert.equal(Buffer.compare(memory.bytes, before), 0);
    const fault = /DMAR: \[DMA Write.* fault addr 0x900000 .*/.exec(dmesg())?.[0];
    assert.ok(fault, "the kernel has logged no fault");
    return fault.trim();
  });
  await check("dma after unmapping", () => {
    const began = performance.now();
    container.unmap(memory.range);
    runToEnd(container.settle());
    const took = performance.now() - began;
    assert.equal(container.pinnedBytes, 0n);
    const before = Buffer.from(memory.bytes);
    memory.bytes.fill(0x11, 0, PAGE);
    engine.toMemory(IOVA, PAGE);
    assert.ok(
      memory.bytes.subarray(0, PAGE).every((byte) => byte === 0x11),
      "it still reaches the memory",
    );
    assert.equal(Buffer.compare(memory.bytes.subarray(PAGE), before.subarray(PAGE)), 0);
    return `does not arrive; ${took.toFixed(1)} ms`;
  });
  await check("a map that is cancelled", () => {
    // So much that the kernel is at it for a while.
    const large = new ClientMemory(8192, 0x20_0000n);
    const steps = container.map(large.range);
    assert.equal(steps.next().done, false);
    steps.return();
    runToEnd(container.settle());
    large.bytes.fill(0x22, 0, PAGE);
    engine.toMemory(large.range.address, PAGE);
    assert.ok(
      large.bytes.subarray(0, PAGE).every((byte) => byte === 0x22),
      "it reaches the memory",
    );
    large.close();
    return "maps nothing";
  });
  await check("read only", () => {
    runToEnd(container.map({ ...memory.range, writable: false }));
    memory.bytes.fill(0x33, 0, PAGE);
    engine.fromMemory(IOVA + BigInt(PAGE), PAGE);
    engine.toMemory(IOVA, PAGE);
    assert.ok(
      memory.bytes.subarray(0, PAGE).every((byte) => byte === 0x33),
      "memory that may only be read is written",
    );
    container.unmap(memory.range);
    runToEnd(container.settle());
  });
  await check("refused maps", () => {
    const refused = (changes, code) => {
      assert.throws(
        () => runToEnd(container.map({ ...memory.range, ...changes })),
        (error) => error.code === code,
      );
    };
    refused({ address: IOVA + 1n }, "EINVAL");
    refused({ address: 0xfee0_0000n }, "EINVAL");
    refused({ address: 1n << 63n }, "EINVAL");
    refused({ size: BigInt(64 * PAGE) }, "EFAULT");
    assert.equal(container.pinnedBytes, 0n);
    let words = "";
    try {
      runToEnd(container.map({ ...memory.range, address: 0xfee0_0000n }));
    } catch (error) {
      words = error.message;
    }
    return words;
  });
  await check("a large map", () => {
    const fd = createMemfd("large", 64 * 2 ** 20);
    const file = { fd: fd.number, offset: 0n, id: "large" };
    const range = { address: 0x1_0000_0000n, size: 64n << 20n, file, readable: true, writable: true };
    let longest = 0;
    let last = performance.now();
    const steps = container.map(range);
    for (let result = steps.next(); result.done !== true; result = steps.next()) {
      longest = Math.max(longest, performance.now() - last);
      while (!(result.value.done?.() ?? false) && performance.now() < result.value.deadline);
      last = performance.now();
    }
    const began = performance.now();
    container.unmap(range);
    longest = Math.max(longest, performance.now() - began);
    runToEnd(container.settle());
    fd.close();
    return `64 MiB, this thread was at it for ${longest.toFixed(1)} ms at a time`;
  });
  memory.close();
}

async function interrupts(device, engine) {
  await check("msi", () => {
    const event = createEventfd();
    listen(device, VFIO_PCI_MSI_IRQ_INDEX, [event]);
    engine.raise(1);
    arrives(event, "the interrupt does not come");
    engine.acknowledge(1);
    // No descriptors: taken away from each.
    const set = { index: VFIO_PCI_MSI_IRQ_INDEX, start: 0, count: 1, action: "trigger", data: { kind: "eventfd" } };
    device.setIrqs(set, []);
    engine.raise(1);
    assert.equal(pollOne(event, POLLIN, 300), 0, "it comes although nobody listens");
    engine.acknowledge(1);
    device.setIrqs(
      { index: VFIO_PCI_MSI_IRQ_INDEX, start: 0, count: 0, action: "trigger", data: { kind: "none" } },
      [],
    );
    event.close();
  });
  await check("intx", () => {
    const [event, unmask] = [createEventfd(), createEventfd()];
    const index = VFIO_PCI_INTX_IRQ_INDEX;
    listen(device, index, [event]);
    engine.raise(2);
    arrives(event, "the interrupt does not come");
    device.setIrqs({ index, start: 0, count: 1, action: "unmask", data: { kind: "none" } }, []);
    arrives(event, "a line that is still up does not interrupt again");
    engine.acknowledge(2);
    device.setIrqs({ index, start: 0, count: 1, action: "unmask", data: { kind: "eventfd" } }, [unmask.number]);
    device.setIrqs({ index, start: 0, count: 1, action: "unmask", data: { kind: "none" } }, []);
    assert.equal(pollOne(event, POLLIN, 300), 0, "a line that is down interrupts");
    engine.raise(4);
    arrives(event, "the next interrupt does not come");
    device.setIrqs({ index, start: 0, count: 1, action: "mask", data: { kind: "none" } }, []);
    engine.acknowledge(4);
    device.setIrqs({ index, start: 0, count: 0, action: "trigger", data: { kind: "none" } }, []);
    for (const fd of [event, unmask]) fd.close();
  });
}

async function resets(container, disk, switchOn) {
  const CC = 0x14;
  await check("reset", () => {
    assert.equal(register(disk, 0, CC, 4) & 1, 1, "it is switched on");
    const began = performance.now();
    runToEnd(disk.reset());
    const took = performance.now() - began;
    setCommand(disk, COMMAND_MEMORY);
    assert.equal(register(disk, 0, CC, 4) & 1, 0);
    return `${took.toFixed(0)} ms`;
  });
  await check("hot reset", () => {
    const alone = disk.affectedByHotReset();
    assert.deepEqual(
      alone.map(({ address }) => address),
      [nvme.address],
    );
    switchOn();
    assert.equal(register(disk, 0, CC, 4) & 1, 1);
    runToEnd(disk.hotReset());
    setCommand(disk, COMMAND_MEMORY);
    assert.equal(register(disk, 0, CC, 4) & 1, 0);
    const [first, second] = [pairA, pairB].map(({ address }) => runToEnd(container.open(address)));
    assert.equal(first.reset, undefined, "a function whose bus has others cannot be reset alone");
    const both = first.affectedByHotReset().map(({ address }) => address);
    assert.deepEqual(both, [pairA.address, pairB.address]);
    runToEnd(first.hotReset());
    for (const each of [first, second]) runToEnd(container.release(each));
    return `of one function, and of ${both.join(" and ")} together`;
  });
}

async function removal(container, device, notices) {
  await check("removal", async () => {
    const poller = new Poller();
    const client = createEventfd();
    device.watchWith(poller);
    listen(device, VFIO_PCI_REQ_IRQ_INDEX, [client]);
    const remove = spawn("sh", ["-c", `echo 1 > /sys/bus/pci/devices/${device.address}/remove`]);
    const ended = once(remove, "exit");
    for (const end = Date.now() + PATIENCE; notices.length === 0 && Date.now() < end; ) poller.wait(50);
    assert.deepEqual(notices, [`${device.address} removal requested`]);
    arrives(client, "the client does not hear of it");
    runToEnd(container.release(device));
    const [code] = await ended;
    assert.equal(code, 0);
    assert.throws(() => register(device, 0, 0, 4), { code: "ENODEV" });
    return "the kernel asks, and goes on when the device is closed";
  });
}

/** On a kernel that lets BARs be mapped that have a driver. */
async function relaxed() {
  bindAll(edu);
  await check("sysfs file", () => {
    const open = (neverSeparate) => {
      const options = { policy: "separate", pageSize: PAGE, neverSeparate: () => neverSeparate };
      const container = new KernelContainer(options);
      return { container, device: runToEnd(container.open(edu.address)) };
    };
    const { container, device } = open([]);
    assert.equal(device.regions[0].mappedBy, "sysfs file");
    setCommand(device, COMMAND_MEMORY);
    const mapped = new Mapping({ number: device.regions[0].mapping.fd }, 0, PAGE, "read-write");
    const id = new Uint32Array(mapped.bytes.buffer)[0];
    mapped.unmap();
    assert.equal(id, register(device, 0, 0, 4));
    runToEnd(container.release(device));
    container.close();
    const other = open([0]);
    assert.equal(other.device.regions[0].mappedBy, "trapped");
    runToEnd(other.container.release(other.device));
    other.container.close();
    return `edu's BAR0 by its own file, id 0x${id.toString(16)}; trapped where it must be`;
  });
}

/** As a user without CAP_IPC_LOCK, under `ulimit -l`: the kernel's limit for pinned memory, in words. */
async function memlock() {
  bindAll(nvme);
  await check("RLIMIT_MEMLOCK", () => {
    dropIpcLock();
    assert.equal(memlockLimit(), 1n << 20n);
    const container = new KernelContainer({ policy: "separate", pageSize: PAGE });
    const device = runToEnd(container.open(nvme.address));
    const [small, large] = [new ClientMemory(64, 0n), new ClientMemory(512, 0x1_0000_0000n)];
    runToEnd(container.map(small.range));
    let message = "";
    try {
      runToEnd(container.map(large.range));
    } catch (error) {
      assert.equal(error.code, "ENOMEM");
      message = error.message;
    }
    assert.match(message, /2097152 bytes .* beside 262144 that are: RLIMIT_MEMLOCK allows 1048576/);
    assert.equal(container.pinnedBytes, 262144n);
    runToEnd(container.release(device));
    container.close();
    return message;
  });
}

/** Threads that are started from now on have what this one has (capset(2)). */
function dropIpcLock() {
  const CAPGET = 125;
  const CAPSET = 126;
  const header = new NativeMemory(8);
  const sets = new NativeMemory(24);
  header.view.setUint32(0, 0x20080522, true);
  assert.equal(libc().syscall(CAPGET, header.address, sets.address, 0, 0, 0), 0);
  for (const at of [0, 4]) sets.view.setUint32(at, sets.view.getUint32(at, true) & ~(1 << 14), true);
  assert.equal(libc().syscall(CAPSET, header.address, sets.address, 0, 0, 0), 0);
}

const PARTS = { group, devices, relaxed, memlock };
for (const part of process.argv.slice(2)) await check(`part ${part}`, PARTS[part]);
process.exit(status());
