// Runs on a host that has four V100s, serves one of them through a fence, and starts the QEMU that this host itself runs in
// once more, with the arguments that linkfence says. What the hardware sees is judged by the harness, in whose process the
// hardware is: `look` asks it.
// Environment: GPUS, the addresses in order; NVLINK, what nvidia-smi would say of the links; QEMU, how to start it.
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { LiveServer } from "/linkfence/guest/live_server.mjs";
import { runLinux } from "/linkfence/guest/nested/nested_linux.mjs";
import { QtestMachine } from "/linkfence/guest/nested/qtest_machine.mjs";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, result, status, step } from "/linkfence/guest/report.mjs";
import {
  BOOT_0,
  LINK_DISABLE,
  PEER_LINK,
  PEER_STATUS,
  PEER_WINDOW,
  PMC_ENABLE,
  PRI_DECODE_CONFIG,
  PRI_RING_COMMAND,
  V100_BOOT_0,
} from "/linkfence/guest/v100/v100.mjs";

const [GPU] = JSON.parse(process.env.GPUS);
const NVLINK = "/tmp/nvlink.txt";
writeFileSync(NVLINK, JSON.parse(process.env.NVLINK));
/** Any size will do, says linkfence. QEMU waits 5 s for a map, and the emulated IOMMU takes that for 64 MiB in small pages. */
const MEMORY = "160M";
const PRINTED_MEMORY = /(?<=^|size=)4G\b/;
const LARGE_PAGES = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";
const FIRMWARE_MS = 120_000;
const PORT_ID = 0x000c1b36;
const GPU_ID = 0x1db110de;
const COMMAND = 0x04;
const MEMORY_AND_MASTER = 0x6;
const FIRST_BAR = 0x10;
const BARS = 6;
const BUSES = 0x18;
const BRIDGE_CONTROL = 0x3c;
const SECONDARY_BUS_RESET = 1 << 22;
const ALL_CUT = 0x003f0000;

/** The V100 of QEMU's guest, as its firmware has set it up, with a port of its own above. */
class NestedGpu {
  /** Waits until the firmware has found it and given it addresses. */
  static async find(machine) {
    const end = performance.now() + FIRMWARE_MS;
    while (performance.now() < end) {
      for (let slot = 0; slot < 32; slot++) {
        if ((await machine.readl(machine.config(0, slot, 0))) !== PORT_ID) continue;
        const bus = ((await machine.readl(machine.config(0, slot, BUSES))) >> 8) & 0xff;
        const gpu = new NestedGpu(machine, slot, bus);
        if (bus !== 0 && (await gpu.config(0)) === GPU_ID && (await gpu.config(COMMAND)) & 2) return gpu;
      }
      await sleep(500);
    }
    throw new Error(`the firmware has not set up a V100; ${machine.complaints}`);
  }

  constructor(machine, portSlot, bus) {
    this.machine = machine;
    this.portControl = machine.config(0, portSlot, BRIDGE_CONTROL);
    this.bus = bus;
  }

  config(offset) {
    return this.machine.readl(this.machine.config(this.bus, 0, offset));
  }

  setConfig(offset, value) {
    return this.machine.writel(this.machine.config(this.bus, 0, offset), value);
  }

  async switchOn() {
    this.bar = ((await this.config(FIRST_BAR)) & ~0xf) >>> 0;
    await this.setConfig(COMMAND, MEMORY_AND_MASTER);
  }

  get(offset) {
    return this.machine.readl(this.bar + offset);
  }

  set(offset, value) {
    return this.machine.writel(this.bar + offset, value);
  }

  /** By the port above, as a kernel does: what a reset clears is put back. */
  async reset() {
    const bars = [];
    for (let index = 0; index < BARS; index++) bars.push(await this.config(FIRST_BAR + index * 4));
    const control = await this.machine.readl(this.portControl);
    await this.machine.writel(this.portControl, (control | SECONDARY_BUS_RESET) >>> 0);
    await sleep(10);
    await this.machine.writel(this.portControl, control);
    await sleep(1000);
    for (const [index, value] of bars.entries()) await this.setConfig(FIRST_BAR + index * 4, value);
    await this.switchOn();
  }

  /** Writes 0 to the disable register and tries each link; has what came of it. */
  async attack() {
    const before = await this.get(LINK_DISABLE);
    await this.set(LINK_DISABLE, 0);
    // A reset has stopped the link units.
    await this.set(PRI_RING_COMMAND, 4);
    await this.set(PRI_DECODE_CONFIG, 2);
    await this.set(PMC_ENABLE, ((await this.get(PMC_ENABLE)) | (1 << 25)) >>> 0);
    let up = 0;
    for (let link = 0; link < 6; link++) {
      await this.set(PEER_LINK, link);
      await this.get(PEER_WINDOW);
      if ((await this.get(PEER_STATUS)) === 1) up++;
    }
    return [await this.get(BOOT_0), before, await this.get(LINK_DISABLE), up];
  }
}

/** What the hardware has seen since it was last asked to forget, by GPU. */
const look = () => JSON.parse(step("look"));

/** How QEMU is started: with what `serve` prints. */
function qemu() {
  const { program, args } = JSON.parse(process.env.QEMU);
  const printed = server.served.assignments[0].qemu.map((arg) => arg.replace(PRINTED_MEMORY, MEMORY));
  return { program, args: [...args, ...printed] };
}

/** No GPU has been touched by a client while a link of it was not cut, and no link was up; the first was reset so often. */
function untouched(leastResets) {
  const seen = look();
  for (const each of seen) {
    assert.equal(each.uncutAccesses, 0, JSON.stringify(each));
    assert.equal(each.openMoments, 0, JSON.stringify(each));
  }
  const [{ clientAccesses, resets }] = seen;
  assert.ok(clientAccesses >= 2 * 3 * 6 && resets >= leastResets, JSON.stringify(seen));
  return `${clientAccesses} accesses of the guest's, ${resets} resets`;
}

let server;
let machine;
let gpu;
const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const start = performance.now();
await check("serve --live serves one GPU", async () => {
  server = await LiveServer.start("--yes", "--nvlink", NVLINK, "--assign", `vm1=${GPU}`);
  assert.equal(server.served.fenced, true, JSON.stringify(server.served));
  assert.equal(server.served.tier, "mediated");
  return `ready in ${seconds(start)}`;
});
await check("QEMU takes the function by the arguments that serve prints, and its firmware sets it up", async () => {
  const start = performance.now();
  writeFileSync(LARGE_PAGES, "always\n");
  step("forget");
  machine = new QtestMachine(qemu());
  gpu = await NestedGpu.find(machine);
  await gpu.switchOn();
  return `BAR0 at 0x${gpu.bar.toString(16)} after ${seconds(start)}`;
});
await check("whatever is written, its links stay cut", async () => {
  assert.deepEqual(await gpu.attack(), [V100_BOOT_0, ALL_CUT, ALL_CUT, 0]);
  return "six links tried";
});
await check("the same after a reset by the port above it", async () => {
  const resets = () => look()[0].resets;
  const before = resets();
  const start = performance.now();
  await gpu.reset();
  const took = seconds(start);
  assert.ok(resets() > before, "the hardware was reset");
  assert.deepEqual(await gpu.attack(), [V100_BOOT_0, ALL_CUT, ALL_CUT, 0]);
  return `reset in ${took}`;
});
await check("QEMU ends when it is switched off, and had nothing to complain about", async () => {
  assert.equal(await machine.powerOff(), 0);
  assert.equal(machine.complaints, "");
});
await check("from the hardware's side: used, reset, and never touched while a link was not cut", () => untouched(2));
await check("a Linux in that QEMU finds the same, before and after it resets its function", async () => {
  step("forget");
  const start = performance.now();
  const { exit, said, complaints } = await runLinux(qemu());
  const text = `${JSON.stringify(said)} ${complaints}`;
  assert.equal(exit, 0, text);
  for (const round of ["first", "again"]) {
    const found = ["boot0", "disable", "written", "links"].map((key) => Number(said[`${round}.${key}`]));
    assert.deepEqual(found, [V100_BOOT_0, ALL_CUT, ALL_CUT, 0], text);
  }
  assert.equal(said.reset, "1", text);
  assert.equal(complaints, "");
  return `${seconds(start)}; ${untouched(2)}`;
});
await check("the end: the function has its former driver", async () => {
  machine?.process.kill("SIGKILL");
  assert.equal(await server.end(), 0, server.errors);
  assert.equal(new PciFunction(GPU).driver, undefined);
  result("errors", server.errors);
});
process.exit(status());
