// Runs in a guest that has one V100 with its NPU bridges. Usage: node one_v100_guest.mjs PART...
// Environment: MASK, what the GPU's disable register has to have; FOREIGN, the links that lead to GPUs of others.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createEventfd, createMemfd, drainEventfd, Mapping, POLLIN, pollOne } from "/linkfence/dist/os/index.js";
import { VFIO_PCI_MSI_IRQ_INDEX } from "/linkfence/dist/vfio/index.js";
import { COMMAND_BUS_MASTER, COMMAND_MEMORY } from "/linkfence/guest/pci_function.mjs";
import { check, result, status } from "/linkfence/guest/report.mjs";
import { DisableWatch } from "/linkfence/guest/v100/disable_watch.mjs";
import {
  answers,
  BAR0_WINDOW,
  BAR0_WINDOW_START,
  BOOT_0,
  findBridges,
  findGpus,
  hex,
  LINK_DISABLE,
  PMC_ENABLE,
  PRI_DECODE_CONFIG,
  PRI_RING_COMMAND,
  V100_BOOT_0,
} from "/linkfence/guest/v100/v100.mjs";
import { VfioFunction } from "/linkfence/guest/vfio_function.mjs";

const MASK = Number(process.env.MASK);
const FOREIGN = process.env.FOREIGN.split(",").map(Number);
const MIB = 1 << 20;
const GIB = 1n << 30n;

/** NV_PTIMER and NV_PMC's interrupts, in bytes of BAR0 (NVIDIA/open-gpu-doc manuals/volta/gv100). */
const PTIMER_INTR_0 = 0x9100;
const PTIMER_INTR_EN_0 = 0x9140;
const PTIMER_TIME_0 = 0x9400;
const PTIMER_ALARM_0 = 0x9420;
const PMC_INTR_EN_SET = 0x160;
const PMC_INTR_EN_CLEAR = 0x180;
const PMC_INTR_PTIMER = 1 << 20;

const ALARMS = 20;
/** Nanoseconds ahead, a multiple of the timer's 32. */
const ALARM_AFTER = 3_200_000;
/** Milliseconds; the guest is emulated, and its machine may be busy. */
const PATIENCE = 10_000;

const [gpu] = findGpus();
const bridges = findBridges();

function pause(milliseconds) {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

/** As the listing that it is compared with was made: vfio-pci has the function. */
async function lspci() {
  const { pci } = gpu;
  pci.command = 0;
  pci.bind("vfio-pci");
  const print = (...options) => spawnSync("lspci", [...options, "-s", pci.address]).stdout.toString("base64");
  result("lspci -vs", print("-v"));
  result("lspci -vvs", print("-vv"));
  result("lspci -nns", print("-nn"));
  result("config", pci.readConfig(0, 4096).toString("hex"));
  pci.unbind();
  pci.command = COMMAND_MEMORY | COMMAND_BUS_MASTER;
}

async function identity() {
  await check("BOOT_0 of a V100", () => {
    assert.equal(hex(gpu.get(BOOT_0)), hex(V100_BOOT_0));
    return hex(V100_BOOT_0);
  });
  await check("the kernel has assigned all BARs, the 64-bit ones above 4 GiB", () => {
    const sizes = { 0: 16n << 20n, 1: 16n * GIB, 3: 32n << 20n };
    const found = Object.entries(sizes).map(([index, size]) => {
      const bar = gpu.pci.bar(Number(index));
      assert.equal(bar.size, size, `BAR${index}`);
      assert.notEqual(bar.start, 0n, `BAR${index} has no address`);
      assert.equal(bar.start % bar.size, 0n, `BAR${index} is not aligned`);
      if (index !== "0") assert.ok(bar.start >= 4n * GIB, `BAR${index} is at ${bar.start.toString(16)}`);
      return `BAR${index} at 0x${bar.start.toString(16)}`;
    });
    return found.join(", ");
  });
  await check("the first bridge shows the GPU's RAM as BAR4, the others do not", () => {
    const sizes = bridges.map((bridge) => bridge.bar(4).size);
    assert.deepEqual(sizes, [16n * GIB, ...sizes.slice(1).fill(0n)]);
    assert.notEqual(bridges[0].bar(4).start, 0n);
    return `${bridges.length} bridges 1014:04ea`;
  });
  await check("the only reset is that of the bus", () => assert.equal(gpu.pci.read("reset_method"), "bus"));
}

/** BAR1, the window in BAR0 and the bridge's BAR4 are one memory. */
async function views() {
  await check("BAR1, BAR0's window and the bridge's BAR4 show the same bytes", () => {
    const ram = mapRam(MIB, 5 * 2 ** 30);
    const bar1 = gpu.pci.mapBar(1, MIB, 5 * 2 ** 30).bytes;
    gpu.set(BAR0_WINDOW, (5 * 2 ** 30) / 0x10000);
    const window = gpu.words.subarray(BAR0_WINDOW_START / 4);
    const [ramWords, bar1Words] = [ram, bar1].map((bytes) => new Uint32Array(bytes.buffer));
    ramWords[1] = 0xc0ffee01;
    bar1Words[2] = 0xc0ffee02;
    window[3] = 0xc0ffee03;
    for (const view of [ramWords, bar1Words, window]) {
      assert.deepEqual([...view.subarray(1, 4)].map(hex), ["0xc0ffee01", "0xc0ffee02", "0xc0ffee03"]);
    }
  });
}

/** The coherent RAM as the bridge shows it. */
function mapRam(size, offset = 0) {
  bridges[0].command |= COMMAND_MEMORY;
  return bridges[0].mapBar(4, size, offset, "_wc").bytes;
}

/** The same loop on the guest's own memory and on the coherent RAM, in turns; the best of each counts. */
async function bandwidth() {
  const size = 256 * MIB;
  const rounds = 6;
  const memories = { own: new Mapping(createMemfd("own", size), 0, size, "read-write").bytes, ram: mapRam(size) };
  const block = new Uint8Array(4 * MIB).map((_, index) => index * 7);
  const loops = {
    write(bytes) {
      for (let at = 0; at < size; at += block.length) bytes.set(block, at);
    },
    read(bytes) {
      for (let at = 0; at < size; at += block.length) block.set(bytes.subarray(at, at + block.length));
    },
  };
  for (const [name, loop] of Object.entries(loops)) {
    await check(`bandwidth: coherent RAM is ${name === "read" ? "read" : "written"} at the speed of memory`, () => {
      const best = { own: 0, ram: 0 };
      for (let round = 0; round < rounds; round++) {
        for (const [which, bytes] of Object.entries(memories)) {
          const start = performance.now();
          loop(bytes);
          best[which] = Math.max(best[which], size / 1e6 / (performance.now() - start));
        }
      }
      const ratio = best.ram / best.own;
      const text = `${ratio.toFixed(2)}: ${best.ram.toFixed(2)} of ${best.own.toFixed(2)} GB/s`;
      // Noise of a busy machine is a few tenths; an access that is trapped takes thousands of times as long.
      assert.ok(ratio >= 0.5, text);
      return text;
    });
  }
}

/** What the kernel counted for interrupts whose line has `word`. */
function counted(word) {
  const line = readFileSync("/proc/interrupts", "utf8")
    .split("\n")
    .find((text) => text.includes(word));
  assert.ok(line, `no ${word} in /proc/interrupts`);
  return Number(line.trim().split(/\s+/)[1]);
}

/**
 * The timer through the guest's own vfio-pci, whose reset at open is the first check. When a driver takes the BARs the
 * kernel ends all mappings of them, so nothing that uses those comes after this in a process.
 */
async function timer() {
  gpu.pci.bind("vfio-pci");
  const device = new VfioFunction(gpu.pci);
  device.setCommand(COMMAND_MEMORY | COMMAND_BUS_MASTER);
  const get = (offset) => device.read(0, offset, 4);
  const set = (offset, value) => device.write(0, offset, 4, value);
  await check("vfio-pci in the guest has opened and reset it: the first access finds the mask", () => {
    assert.equal(hex(get(LINK_DISABLE)), hex(MASK));
  });
  const event = createEventfd();
  device.listen(VFIO_PCI_MSI_IRQ_INDEX, [event]);
  const alarm = () => set(PTIMER_ALARM_0, (get(PTIMER_TIME_0) + ALARM_AFTER) >>> 0);
  await check("as many MSIs as PTIMER alarms", () => {
    set(PTIMER_INTR_EN_0, 1);
    set(PMC_INTR_EN_SET, PMC_INTR_PTIMER);
    for (let count = 1; count <= ALARMS; count++) {
      alarm();
      assert.equal(pollOne(event, POLLIN, PATIENCE), POLLIN, `alarm ${count} does not come`);
      assert.equal(drainEventfd(event), 1n);
      assert.equal(get(PTIMER_INTR_0), 1);
      set(PTIMER_INTR_0, 1);
    }
    pause(50);
    assert.equal(drainEventfd(event), 0n, "one came that nobody set");
    assert.equal(counted("vfio-msi[0]"), ALARMS, "the kernel counted others");
    return `${ALARMS} alarms, the kernel counted ${ALARMS} interrupts`;
  });
  await check("an alarm that is not enabled interrupts nobody until it is", () => {
    set(PMC_INTR_EN_CLEAR, PMC_INTR_PTIMER);
    alarm();
    for (const end = Date.now() + PATIENCE; get(PTIMER_INTR_0) === 0; ) assert.ok(Date.now() < end, "no alarm");
    pause(20);
    assert.equal(drainEventfd(event), 0n);
    set(PMC_INTR_EN_SET, PMC_INTR_PTIMER);
    assert.equal(pollOne(event, POLLIN, PATIENCE), POLLIN);
    set(PTIMER_INTR_EN_0, 0);
    set(PTIMER_INTR_0, 1);
    assert.equal(counted("vfio-msi[0]"), ALARMS + 1);
  });
  device.silence(VFIO_PCI_MSI_IRQ_INDEX);
  event.close();
  device.close();
  gpu.pci.unbind();
}

/** No link to a GPU of another's is up, and nothing comes through it. */
function assertNothingCrosses() {
  for (const link of FOREIGN) {
    const { status: up, word } = gpu.look(link);
    assert.equal(up, 0, `link ${link} is up`);
    assert.ok(!answers(word), `link ${link} shows ${hex(word)}`);
  }
}

const RESETS = {
  "echo 1 > reset": () => gpu.pci.write("reset", "1"),
  "reset_subordinate of the port above": () => gpu.pci.port.write("reset_subordinate", "1"),
};

async function resets() {
  for (const [name, reset] of Object.entries(RESETS)) {
    await check(`${name}: the first access after it finds the mask, and nothing crosses`, () => {
      gpu.set(BAR0_WINDOW, 0x5eed);
      reset();
      const first = gpu.get(LINK_DISABLE);
      assert.equal(hex(first), hex(MASK), "the first access");
      assertNothingCrosses();
      gpu.startLinks();
      assertNothingCrosses();
      assert.equal(gpu.get(BAR0_WINDOW), 0, "it was no reset");
    });
    await check(`${name}: a thread that reads all the time never finds the mask open`, async () => {
      const watch = await DisableWatch.begin(gpu.pci.address, MASK);
      const rounds = 3;
      for (let round = 0; round < rounds; round++) {
        reset();
        // Lets the other thread at it for a moment: there is one processor.
        pause(20);
      }
      const { reads, answered, open, lastOpen } = await watch.end();
      assert.equal(open, 0, `${open} of ${answered} answers lack bits: ${hex(lastOpen)}`);
      assert.ok(answered > rounds, "the watch did not see enough");
      return `${rounds} resets, ${answered} of ${reads} reads were answered`;
    });
  }
}

/** Everything a guest may try to get links up again. */
async function hostile() {
  const unchanged = () => {
    assert.equal(hex(gpu.get(LINK_DISABLE)), hex(MASK));
    assertNothingCrosses();
  };
  await check("writing 0 to the disable register, in all sizes and places, changes nothing", () => {
    let writes = 0;
    const views = { 1: gpu.bytes, 2: gpu.shorts, 4: gpu.words, 8: gpu.longs };
    for (const [width, view] of Object.entries(views)) {
      const size = Number(width);
      for (let at = LINK_DISABLE - 8; at < LINK_DISABLE + 12; at += size) {
        view[at / size] = size === 8 ? 0n : 0;
        writes++;
        assert.equal(hex(gpu.get(LINK_DISABLE)), hex(MASK), `${size} bytes at ${hex(at)}`);
      }
    }
    gpu.bytes.set(new Uint8Array(256), LINK_DISABLE - 125);
    gpu.bytes.fill(0, LINK_DISABLE - 13, LINK_DISABLE + 14);
    unchanged();
    return `${writes} writes of 1, 2, 4 and 8 bytes and two of many`;
  });
  await check("switching the NVLink engine and the priv ring off and on changes nothing", () => {
    const enable = gpu.get(PMC_ENABLE);
    for (const value of [0, 0xffffffff, enable & ~(1 << 25)]) {
      gpu.set(PMC_ENABLE, value);
      gpu.set(LINK_DISABLE, 0);
      gpu.set(PRI_RING_COMMAND, 0);
      gpu.set(PRI_DECODE_CONFIG, 0);
      gpu.set(LINK_DISABLE, 0);
      assertNothingCrosses();
    }
    gpu.set(PMC_ENABLE, enable);
    gpu.startLinks();
    unchanged();
  });
  await check("function level reset and power states change nothing, for there are none", () => {
    const setpci = (...args) =>
      spawnSync("setpci", ["-s", gpu.pci.address, ...args])
        .stdout.toString()
        .trim();
    gpu.set(BAR0_WINDOW, 0x5eed);
    setpci("CAP_EXP+8.w=8000:8000");
    pause(150);
    setpci("CAP_PM+4.w=3:3");
    pause(20);
    setpci("CAP_PM+4.w=0:3");
    pause(20);
    assert.equal(gpu.get(BAR0_WINDOW), 0x5eed, "it was reset");
    unchanged();
  });
  await check("the disable register takes more bits, and loses those to the next reset only", () => {
    gpu.set(LINK_DISABLE, 0x003f0000);
    assert.equal(hex(gpu.get(LINK_DISABLE)), hex(0x003f0000));
    gpu.set(LINK_DISABLE, 0);
    assert.equal(hex(gpu.get(LINK_DISABLE)), hex(0x003f0000));
    gpu.pci.write("reset", "1");
    unchanged();
  });
}

/** The first thing that a new guest does with the GPU. */
async function firstAccess() {
  await check("the guest's first access finds the mask, and nothing crosses", () => {
    const first = gpu.get(LINK_DISABLE);
    assert.equal(hex(first), hex(MASK));
    assertNothingCrosses();
    gpu.startLinks();
    assertNothingCrosses();
    return hex(first);
  });
}

/** Leaves something in the GPU's memory, which the next guest is not to find. */
async function leave() {
  mapRam(MIB, 7 * 2 ** 30).fill(0xa5);
}

async function nothingLeft() {
  await check("nothing of the last guest's is in the GPU's memory", () => {
    for (const bytes of [mapRam(MIB, 7 * 2 ** 30), gpu.pci.mapBar(1, MIB, 7 * 2 ** 30).bytes, mapRam(MIB)]) {
      assert.equal(Buffer.compare(bytes, new Uint8Array(MIB)), 0);
    }
  });
}

const PARTS = { lspci, identity, views, bandwidth, timer, resets, hostile, firstAccess, leave, nothingLeft };
for (const part of process.argv.slice(2)) {
  await check(`part ${part}`, PARTS[part]);
}
process.exit(status());
