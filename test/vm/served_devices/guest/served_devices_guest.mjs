// Runs on a host with two edus, an nvme and no GPU; serves them, and is a client of each.
// Usage: node served_devices_guest.mjs PART...
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { getSystemErrorName } from "node:util";
import { askServer } from "/linkfence/dist/cli/serve/control_client.js";
import { KernelContainer } from "/linkfence/dist/host/vfio/kernel_container.js";
import { encodeDmaBufFeature } from "/linkfence/dist/host/vfio/region_file.js";
import { VFIO_DEVICE_FEATURE } from "/linkfence/dist/host/vfio/requests.js";
import { createEventfd, drainEventfd, Fd, libc, Mapping, POLLIN, pollOne } from "/linkfence/dist/os/index.js";
import {
  runToEnd,
  VFIO_PCI_CONFIG_REGION_INDEX,
  VFIO_PCI_INTX_IRQ_INDEX,
  VFIO_PCI_MSI_IRQ_INDEX,
  VFIO_PCI_MSIX_IRQ_INDEX,
  VFIO_REGION_INFO_FLAG_MMAP,
} from "/linkfence/dist/vfio/index.js";
import { VfioUserClient } from "/linkfence/dist/vfio-user/index.js";
import {
  arrives,
  bar0,
  ClientDevice,
  ClientMemory,
  listen,
  PAGE,
  PATIENCE,
  register,
  setCommand,
  silence,
} from "/linkfence/guest/driven_device.mjs";
import { DMA_ENDED, EDU_IDS, Edu } from "/linkfence/guest/edu.mjs";
import { LiveServer } from "/linkfence/guest/live_server.mjs";
import { identify, NVME_IDS } from "/linkfence/guest/nvme.mjs";
import { COMMAND_BUS_MASTER, COMMAND_MEMORY, PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status } from "/linkfence/guest/report.mjs";

/** Where edus see memory: within their 28 address bits. */
const IOVA = 0x10_0000n;
const OTHERS = 0x40_0000n;
const NOBODYS = 0x90_0000n;
const COMMAND = 4;
/** Of the nvme: Controller Configuration, whose first bit switches it on. */
const CC = 0x14;
const CLIENT = { timeout: 30_000 };

const [edu, sibling] = PciFunction.findAll(...EDU_IDS);
const nvme = PciFunction.find(...NVME_IDS);
const EDU_ALONE = ["--yes", "--assign", `vm1=${edu.address}`];
const EDU_AND_NVME = [...EDU_ALONE, "--assign", `vm2=${nvme.address}`];
const ALL = ["--yes", "--assign", `vm1=${edu.address},${sibling.address}`, "--assign", `vm2=${nvme.address}`];

let server;

/** A client of a function, which decodes memory and may do DMA from now on. */
function attach({ address }, options = CLIENT) {
  const client = new VfioUserClient(server.socket(address), options);
  const device = new ClientDevice(client);
  setCommand(device, COMMAND_MEMORY | COMMAND_BUS_MASTER);
  return { client, device };
}

function attachEdu(pci) {
  const { client, device } = attach(pci);
  return { client, device, engine: new Edu(bar0(device)) };
}

function share({ client }, { fd, range }) {
  client.dmaMap(range.address, range.size, { fd, offset: 0n });
}

function unshare({ client }, { range }) {
  client.dmaUnmap(range.address, range.size);
}

const dmesg = () => spawnSync("dmesg").stdout.toString();

/** The kernel's line about DMA to an address; undefined when there is none. */
function faultAt(address) {
  return new RegExp(`DMAR: \\[DMA Write.* fault addr 0x${address.toString(16)} .*`).exec(dmesg())?.[0]?.trim();
}

function unchanged(memory, run, why) {
  const before = Buffer.from(memory.bytes);
  run();
  assert.equal(Buffer.compare(memory.bytes, before), 0, why);
}

/** What `linkfence status --json` says, without a program's start each time. */
const serverStatus = () => askServer(server.socketDir, { command: "status" });

/** How clients get at BAR0 of functions, as `status` says it. */
async function accessTo(...functions) {
  const { functions: told } = await serverStatus();
  return functions.map(({ address }) => {
    const { regions } = told.find((each) => each.address === address);
    return regions.find(({ index }) => index === 0).access;
  });
}

/** Bytes of an assignment's clients' memory that its functions reach. */
async function pinned(name) {
  const { assignments } = await serverStatus();
  return Number(assignments.find((each) => each.name === name).pinnedBytes);
}

const notices = () => server.events.filter(({ event }) => event === "notice");

/** Stops the serving process, all of its threads, while something goes on. */
async function stopped(run) {
  const { pid } = server.process;
  const states = () =>
    readdirSync(`/proc/${pid}/task`).map((task) => {
      const stat = readFileSync(`/proc/${pid}/task/${task}/stat`, "utf8");
      return stat.slice(stat.lastIndexOf(")") + 2, stat.lastIndexOf(")") + 3);
    });
  server.process.kill("SIGSTOP");
  try {
    while (!states().every((state) => state === "T")) await sleep(1);
    return await run(states().length);
  } finally {
    server.process.kill("SIGCONT");
  }
}

/** Bytes of the nvme's disk, as the host's driver reads it. */
async function diskDigest() {
  for (const end = Date.now() + PATIENCE; Date.now() < end; await sleep(50)) {
    try {
      return createHash("sha256").update(readFileSync("/dev/nvme0n1")).digest("hex");
    } catch (error) {
      if (error.code !== "ENOENT") throw error;
    }
  }
  throw new Error("there is no /dev/nvme0n1");
}

async function mediated() {
  const digest = await diskDigest();
  await check("serves functions that are no GPUs", async () => {
    assert.equal(nvme.driver, "nvme");
    const start = performance.now();
    dropIpcLock();
    server = await LiveServer.start(...ALL);
    assert.equal(server.served.tier, "mediated");
    assert.deepEqual(await accessTo(edu, sibling, nvme), ["trapped", "trapped", "trapped"]);
    const { client } = attach(edu);
    const { info, fd } = client.regionInfo(0);
    client.close();
    assert.equal(fd, undefined);
    assert.equal(info.flags & VFIO_REGION_INFO_FLAG_MMAP, 0);
    return `ready in ${((performance.now() - start) / 1000).toFixed(1)} s; BARs are trapped, and no descriptor is handed out`;
  });
  const first = attachEdu(edu);
  await dma(first);
  await edus(first);
  await nvmes();
  await withoutDescriptors();
  await memlock();
  await check("given back", async () => {
    assert.equal(await server.end(), 0, server.errors);
    assert.deepEqual([edu.driver, sibling.driver, nvme.driver], [undefined, undefined, "nvme"]);
    assert.equal(await diskDigest(), digest);
    assert.equal(server.errors.split("\n").length, 2, server.errors);
    return "nvme has its driver, and every byte of its disk can be read";
  });
}

async function dma(first) {
  const { engine } = first;
  const memory = new ClientMemory(8, IOVA);
  await check("dma", async () => {
    share(first, memory);
    assert.equal(await pinned("vm1"), 8 * PAGE);
    const sent = Uint8Array.from({ length: PAGE }, (_, index) => (index * 7 + (index >> 8)) & 0xff);
    memory.bytes.set(sent, PAGE);
    engine.fromMemory(IOVA + BigInt(PAGE), PAGE);
    engine.toMemory(IOVA + BigInt(4 * PAGE), PAGE);
    assert.equal(Buffer.compare(memory.bytes.subarray(4 * PAGE, 5 * PAGE), sent), 0);
    assert.ok(memory.bytes.subarray(5 * PAGE).every((byte) => byte === 0));
    return `${PAGE} bytes there and back`;
  });
  await check("dma outside the maps", () => {
    unchanged(memory, () => engine.toMemory(NOBODYS, PAGE));
    const fault = faultAt(NOBODYS);
    assert.ok(fault, "the kernel has logged no fault");
    return fault;
  });
  await check("functions of one assignment share memory", async () => {
    const second = attachEdu(sibling);
    share(second, memory);
    assert.equal(await pinned("vm1"), 8 * PAGE, "counted once");
    assert.throws(() => second.client.dmaMap(IOVA, BigInt(PAGE), { fd: memory.fd, offset: 0n }), { code: "EEXIST" });
    unshare(first, memory);
    // The container is the same for both: what one of them has mapped both reach.
    engine.fromMemory(IOVA + BigInt(PAGE), PAGE);
    second.engine.fromMemory(IOVA + BigInt(PAGE), PAGE);
    second.engine.toMemory(IOVA + BigInt(6 * PAGE), PAGE);
    const page = (index) => memory.bytes.subarray(index * PAGE, (index + 1) * PAGE);
    assert.equal(Buffer.compare(page(6), page(1)), 0);
    unshare(second, memory);
    second.client.close();
    assert.equal(await pinned("vm1"), 0);
    return "counted once, and mapped until the last of them takes it back";
  });
  await check("dma after unmapping", () => {
    unchanged(memory, () => engine.toMemory(IOVA, PAGE), "it still reaches the memory");
    assert.ok(faultAt(IOVA));
    return "does not arrive, and faults";
  });
  await check("another assignment's memory is out of reach", async () => {
    const other = attach(nvme);
    const others = new ClientMemory(4, OTHERS);
    share(other, others);
    assert.equal(await pinned("vm2"), 4 * PAGE);
    unchanged(others, () => engine.toMemory(OTHERS, PAGE));
    const fault = faultAt(OTHERS);
    assert.ok(fault, "the kernel has logged no fault");
    other.client.close();
    others.close();
    return fault;
  });
  memory.close();
}

async function edus(first) {
  const { client, device, engine } = first;
  const memory = new ClientMemory(1, IOVA);
  share(first, memory);
  await check("msi", () => {
    const event = createEventfd();
    listen(device, VFIO_PCI_MSI_IRQ_INDEX, [event]);
    for (let count = 0; count < 20; count++) {
      engine.raise(1);
      arrives(event, `interrupt ${count} does not come`);
      engine.acknowledge(1);
    }
    silence(device, VFIO_PCI_MSI_IRQ_INDEX);
    engine.raise(1);
    assert.equal(pollOne(event, POLLIN, 200), 0, "it comes although nobody listens");
    engine.acknowledge(1);
    event.close();
    return "20 of 20";
  });
  await check("intx", () => {
    const index = VFIO_PCI_INTX_IRQ_INDEX;
    const event = createEventfd();
    const unmask = () => device.setIrqs({ index, start: 0, count: 1, action: "unmask", data: { kind: "none" } }, []);
    listen(device, index, [event]);
    for (let count = 0; count < 5; count++) {
      engine.raise(2);
      arrives(event, `interrupt ${count} does not come`);
      unmask();
      arrives(event, "a line that is still up does not interrupt again");
      engine.acknowledge(2);
      unmask();
      assert.equal(pollOne(event, POLLIN, 100), 0, "a line that is down interrupts");
    }
    silence(device, index);
    event.close();
  });
  await check("an interrupt while the serving process is stopped", async () => {
    const event = createEventfd();
    listen(device, VFIO_PCI_MSI_IRQ_INDEX, [event]);
    let early = 0;
    let threads = 0;
    for (let count = 0; count < 5; ) {
      memory.bytes.fill(0);
      engine.startToMemory(IOVA, PAGE);
      await stopped((tasks) => {
        threads = tasks;
        if (drainEventfd(event) !== 0n) {
          early++;
          return;
        }
        arrives(event, "no interrupt");
        count++;
      });
      engine.acknowledge(DMA_ENDED);
      assert.ok(early < 20, "DMA always ends before the process is stopped");
    }
    silence(device, VFIO_PCI_MSI_IRQ_INDEX);
    event.close();
    return `5 arrive with all ${threads} threads of it stopped`;
  });
  await check("dma that is under way when the client goes", async () => {
    memory.bytes.fill(0x55);
    engine.fromMemory(IOVA, PAGE);
    memory.bytes.fill(0x66);
    engine.startToMemory(IOVA, PAGE);
    client.close();
    await sleep(500);
    assert.ok(
      memory.bytes.every((byte) => byte === 0x66),
      "it arrives",
    );
    assert.equal(await pinned("vm1"), 0);
    const next = attachEdu(edu);
    next.engine.toMemory(IOVA, PAGE);
    assert.ok(
      memory.bytes.every((byte) => byte === 0x66),
      "the next client's DMA reaches it",
    );
    next.client.close();
    return "does not arrive, nor does the next client's";
  });
  memory.close();
}

async function nvmes() {
  const memory = new ClientMemory(4, 0x8000_0000n);
  const event = createEventfd();
  const disk = attach(nvme);
  const switchOn = ({ device }) => {
    setCommand(device, COMMAND_MEMORY | COMMAND_BUS_MASTER);
    memory.bytes.fill(0);
    return identify(bar0(device), memory.bytes, memory.range.address, () => arrives(event, "no MSI-X"));
  };
  await check("nvme identify", () => {
    share(disk, memory);
    listen(disk.device, VFIO_PCI_MSIX_IRQ_INDEX, [event]);
    const { serial, model } = switchOn(disk);
    assert.equal(serial, "linkfence-check");
    assert.match(readFileSync("/proc/interrupts", "utf8"), /vfio-msix\[0\]/);
    return `${model}, serial ${serial}, its end told by MSI-X`;
  });
  await check("reset", () => {
    assert.equal(register(disk.device, 0, CC, 4) & 1, 1, "it is switched on");
    disk.client.reset();
    setCommand(disk.device, COMMAND_MEMORY);
    assert.equal(register(disk.device, 0, CC, 4) & 1, 0);
    assert.equal(switchOn(disk).serial, "linkfence-check", "interrupts and memory are still the client's");
    return "switches it off, and its client goes on";
  });
  await check("the client is gone", async () => {
    disk.client.close();
    const next = new VfioUserClient(server.socket(nvme.address), CLIENT);
    const device = new ClientDevice(next);
    assert.equal(register(device, VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, 2) & COMMAND_BUS_MASTER, 0);
    assert.doesNotMatch(readFileSync("/proc/interrupts", "utf8"), /vfio-msix/);
    setCommand(device, COMMAND_MEMORY);
    assert.equal(register(device, 0, CC, 4) & 1, 0, "it is still switched on");
    next.close();
    return "nothing of it is left to the next one";
  });
  memory.close();
  event.close();
}

async function withoutDescriptors() {
  const bytes = new Uint8Array(2 * PAGE);
  const options = {
    ...CLIENT,
    memory: {
      read: (address, data) => data.set(bytes.subarray(Number(address - NOBODYS)).subarray(0, data.length)),
      write: (address, data) => bytes.set(data, Number(address - NOBODYS)),
    },
  };
  const unreachable = /came without a descriptor/;
  const all = /reaches no memory at all.*share=on/;
  await check("memory without a descriptor", async () => {
    server.events.length = 0;
    const { client, device } = attach(edu, options);
    const memory = new ClientMemory(1, IOVA);
    share({ client }, memory);
    client.dmaMap(NOBODYS, BigInt(PAGE));
    client.dmaMap(NOBODYS + BigInt(PAGE), BigInt(PAGE));
    assert.equal(await pinned("vm1"), PAGE);
    new Edu(bar0(device)).toMemory(NOBODYS + BigInt(PAGE), PAGE);
    assert.ok(bytes.every((byte) => byte === 0));
    await server.until(() => notices().length > 0);
    await sleep(1500);
    client.close();
    memory.close();
    assert.deepEqual(
      notices().map(({ of, message }) => [of, unreachable.test(message)]),
      [[edu.address, true]],
      JSON.stringify(notices()),
    );
    return `told once: ${notices()[0].message}`;
  });
  await check("no memory with a descriptor at all", async () => {
    server.events.length = 0;
    const { client } = attach(edu, options);
    client.dmaMap(NOBODYS, BigInt(PAGE));
    await server.until(() => notices().some(({ message }) => all.test(message)));
    client.close();
    assert.equal(notices().length, 2, JSON.stringify(notices()));
    return notices()[1].message;
  });
}

async function trust() {
  await check("--trust-vmm hands out the device", async () => {
    server = await LiveServer.start("--trust-vmm", ...EDU_AND_NVME);
    assert.equal(server.served.tier, "trust-vmm");
    assert.deepEqual(await accessTo(edu, nvme), ["device fd", "device fd"]);
    const { client, device } = attach(nvme);
    const { info, fd } = client.regionInfo(0);
    const mapped = new Mapping(fd, Number(info.offset), PAGE, "read-write");
    const version = new Uint32Array(mapped.bytes.buffer)[2];
    assert.equal(version, register(device, 0, 8, 4));
    const kinds = info.capabilities.map(({ kind }) => kind).join(", ");
    mapped.unmap();
    fd.close();
    client.close();
    return `NVMe version 0x${version.toString(16)} by a mapped BAR of ${info.size} bytes (capabilities: ${kinds || "none"})`;
  });
  await check("interrupts while the serving process is stopped", () => interruptsByMapping());
  await check("given back by --trust-vmm", async () => {
    assert.equal(await server.end(), 0, server.errors);
    assert.deepEqual([edu.driver, nvme.driver], [undefined, "nvme"]);
  });
}

/** Raised and acknowledged through a mapped BAR, so that no message is needed for any of it. */
async function interruptsByMapping() {
  const COUNT = 200;
  const { client, device } = attach(edu);
  const { info, fd } = client.regionInfo(0);
  assert.equal(info.size, 1n << 20n);
  const mapped = new Mapping(fd, Number(info.offset), PAGE, "read-write");
  const words = new Uint32Array(mapped.bytes.buffer, mapped.bytes.byteOffset, PAGE / 4);
  const [id, raise, acknowledge] = [0, 0x60 / 4, 0x64 / 4];
  assert.equal(words[id], register(device, 0, 0, 4));
  const event = createEventfd();
  listen(device, VFIO_PCI_MSI_IRQ_INDEX, [event]);
  const threads = await stopped((tasks) => {
    for (let count = 0; count < COUNT; count++) {
      words[raise] = 1;
      arrives(event, `interrupt ${count} does not come`);
      words[acknowledge] = 1;
    }
    return tasks;
  });
  silence(device, VFIO_PCI_MSI_IRQ_INDEX);
  mapped.unmap();
  for (const each of [fd, event]) each.close();
  client.close();
  return `${COUNT} of ${COUNT}, raised through the mapped BAR, arrive with all ${threads} threads of it stopped`;
}

/** The server runs without CAP_IPC_LOCK, under `ulimit -l 1024`. */
async function memlock() {
  await check("RLIMIT_MEMLOCK", async () => {
    assert.match(
      server.errors,
      /^linkfence: VMs with more than 1048576 bytes of memory will be refused \(RLIMIT_MEMLOCK\).*\n$/,
    );
    server.events.length = 0;
    const disk = attach(nvme);
    const [small, large] = [new ClientMemory(64, 0n), new ClientMemory(512, 0x1_0000_0000n)];
    share(disk, small);
    assert.throws(() => share(disk, large), { code: "ENOMEM" });
    assert.equal(await pinned("vm2"), 64 * PAGE);
    await server.until(() => notices().length > 0);
    disk.client.close();
    for (const each of [small, large]) each.close();
    const [{ of, message }] = notices();
    assert.equal(of, "vm2");
    assert.match(message, /2097152 bytes .* RLIMIT_MEMLOCK allows 1048576 in all; set LimitMEMLOCK=infinity/);
    return message;
  });
}

/** Programs that are started from now on do not get it, though root's (capabilities(7), prctl(2)). */
function dropIpcLock() {
  const PRCTL = 157;
  const PR_CAPBSET_DROP = 24;
  const CAP_IPC_LOCK = 14;
  assert.equal(libc().syscall(PRCTL, PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0), 0);
}

/** On a kernel that lets BARs be mapped that have a driver. */
async function sysfsFile() {
  await check("the default tier: sysfs file", async () => {
    server = await LiveServer.start(...EDU_ALONE);
    assert.deepEqual(await accessTo(edu), ["sysfs file"]);
    const { client, device } = attach(edu);
    const { info, fd } = client.regionInfo(0);
    const file = readlinkSync(`/proc/self/fd/${fd.number}`);
    assert.ok(file.endsWith(`/${edu.address}/resource0`), file);
    const mapped = new Mapping(fd, Number(info.offset), Number(info.size), "read-write");
    const words = new Uint32Array(mapped.bytes.buffer, mapped.bytes.byteOffset, PAGE / 4);
    assert.equal(words[0], register(device, 0, 0, 4));
    // What is written there is read inverted (docs/specs/edu.rst of QEMU).
    words[1] = 0x1234_5678;
    assert.equal(register(device, 0, 4, 4), ~0x1234_5678 >>> 0);
    mapped.unmap();
    fd.close();
    client.close();
    return `edu's BAR0 of ${info.size} bytes, by its resource0`;
  });
  await check("given back", async () => {
    assert.equal(await server.end(), 0, server.errors);
    assert.equal(edu.driver, undefined);
  });
}

/** Whether the kernel makes a dma-buf of a BAR, and lets it be mapped: what it says to each. */
async function dmaBuf() {
  await check("a dma-buf of a BAR", () => {
    edu.bind("vfio-pci");
    const container = new KernelContainer({ policy: "trust-vmm", pageSize: PAGE });
    const device = runToEnd(container.open(edu.address));
    const { mapping, size } = device.regions[0];
    const feature = encodeDmaBufFeature(0, size);
    const made = libc().ioctl(mapping.fd, VFIO_DEVICE_FEATURE, "uintptr_t", feature.address);
    const refusal = made < 0 ? getSystemErrorName(-libc().errno()) : undefined;
    const mapped = made < 0 ? "" : mappedOr(new Fd(made), size);
    runToEnd(container.release(device));
    container.close();
    edu.unbind();
    assert.equal(refusal, undefined, "VFIO_DEVICE_FEATURE_DMA_BUF");
    assert.equal(mapped, "EINVAL", "it can be mapped: the default tier must use it, and a check of that belongs here");
    return "it is made, and refuses to be mapped (EINVAL): only other devices reach it";
  });
}

/** @returns why not, or an empty text */
function mappedOr(fd, size) {
  try {
    new Mapping(fd, 0, size, "read-write").unmap();
    return "";
  } catch (error) {
    return error.code;
  } finally {
    fd.close();
  }
}

const PARTS = { mediated, trust, "dma-buf": dmaBuf, "sysfs-file": sysfsFile };
for (const part of process.argv.slice(2)) await check(`part ${part}`, PARTS[part]);
process.exit(status());
