import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { builtinMachine } from "../machine/builtin.js";
import { LINK_DISABLE, NV_PMC_BOOT_0, NV_PMC_ENABLE, NV_PMC_ENABLE_NVLINK } from "../machine/part.js";
import { duplicateFd, Mapping } from "../os/index.js";
import type { DeviceClient, DmaSpace } from "../vfio/device.js";
import { runToEnd } from "../vfio/steps.js";
import { GpuDevice } from "./gpu_device.js";
import { GIB } from "./gpu_memory.js";
import { NV_PMC_INTR_EN_SET, NV_PMC_INTR_SW } from "./interrupt_registers.js";
import { BAR0_WINDOW_START, NV_PBUS_BAR0_WINDOW } from "./memory_window.js";
import { VirtualMachine } from "./virtual_machine.js";

const GPU0 = "0004:04:00.0";
const MEMORY = 2 ** 24;
const BAR0 = 0;
const BAR1 = 1;
const BAR3 = 3;
const CONFIG = 7;
const RAM = 9;
const COMMAND = 0x04;

/** A client that is told nothing it could use. */
class NoClient implements DeviceClient {
  readonly dma: DmaSpace = {
    read: () => assert.fail("the device has no DMA"),
    write: () => assert.fail("the device has no DMA"),
  };
  trigger(): boolean {
    return false;
  }
  setIntx(): void {}
  start(): void {}
}

/** A V100 of a Sequoia, with less memory than a real one unless a test wants it all. */
function withDevice(
  use: (device: GpuDevice, machine: VirtualMachine, unmodelled: string[]) => void,
  memorySize: number | undefined = MEMORY,
): void {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const unmodelled: string[] = [];
  const onUnmodelled = (what: string) => void unmodelled.push(what);
  const device = new GpuDevice(machine, GPU0, { ...(memorySize && { memorySize }), onUnmodelled });
  try {
    use(device, machine, unmodelled);
  } finally {
    device.dispose();
  }
}

function read(device: GpuDevice, region: number, offset: number, length = 4): number[] {
  const data = new Uint8Array(length);
  device.read(region, offset, data);
  return [...data];
}

function read32(device: GpuDevice, offset: number, region = BAR0): number {
  return new DataView(Uint8Array.from(read(device, region, offset)).buffer).getUint32(0, true);
}

function write32(device: GpuDevice, offset: number, value: number, region = BAR0): void {
  device.write(region, offset, new Uint8Array(Uint32Array.of(value).buffer));
}

test("regions and interrupts are those of a V100, by the numbers that vfio-pci gives them", () => {
  withDevice((device) => {
    const sizes = device.regions.slice(0, 9).map((region) => region?.size ?? 0);
    assert.deepEqual(sizes, [2 ** 24, 16 * GIB, 0, 2 ** 25, 0, 0, 0, 4096, 0]);
    for (const region of device.regions) assert.ok(region === undefined || (region.readable && region.writable));
    assert.equal(device.regions[9]?.size, 128 * GIB);
    assert.deepEqual(device.warnings, []);
    assert.deepEqual(device.regions.map((region) => region?.mapping !== undefined).slice(0, 9), [
      ...[false, true, false, false, false, false, false, false, false],
    ]);
    assert.deepEqual(device.irqs, [
      { count: 1, flags: 0x7 },
      { count: 1, flags: 0x9 },
      undefined,
      { count: 1, flags: 0x9 },
      undefined,
    ]);
    assert.equal(device.memory.size, 16 * GIB);
    assert.equal(read32(device, 0, CONFIG), 0x1db110de);
  }, 0);
});

test("a GPU with 32 GiB shows them all in BAR1, in its config space too", () => {
  withDevice((device) => {
    assert.equal(device.regions[BAR1]?.size, 32 * GIB);
    for (const at of [0x14, 0x18]) write32(device, at, 0xffffffff, CONFIG);
    assert.deepEqual([read32(device, 0x14, CONFIG), read32(device, 0x18, CONFIG)], [0x0000000c, 0xfffffff8]);
  }, 32 * GIB);
});

test("BAR1, the BAR0 window and the mapping show the same bytes", () => {
  withDevice((device) => {
    const mapping = device.regions[BAR1]?.mapping;
    assert.ok(mapping !== undefined);
    const fd = duplicateFd(mapping.fd);
    const mapped = new Mapping(fd, mapping.offset, MEMORY, "read-write");
    device.write(BAR1, 0x23_4567, Uint8Array.of(1, 2, 3));
    assert.deepEqual([...mapped.bytes.subarray(0x23_4567, 0x23_456a)], [1, 2, 3]);
    write32(device, NV_PBUS_BAR0_WINDOW, 0x23);
    assert.deepEqual(read(device, BAR0, BAR0_WINDOW_START + 0x4567, 3), [1, 2, 3]);
    device.write(BAR0, BAR0_WINDOW_START + 0x4568, Uint8Array.of(9));
    assert.deepEqual(read(device, BAR1, 0x23_4567, 3), [1, 9, 3]);
    mapped.bytes[0x23_4567] = 8;
    assert.deepEqual(read(device, BAR0, BAR0_WINDOW_START + 0x4567, 3), [8, 9, 3]);
    mapped.unmap();
    fd.close();
  });
});

test("the NVLink2 RAM region shows the same bytes, whether or not BARs are decoded", () => {
  withDevice((device) => {
    device.write(BAR1, 0x1000, Uint8Array.of(1, 2, 3, 4));
    assert.deepEqual(read(device, RAM, 0x1000), [1, 2, 3, 4]);
    write32(device, COMMAND, 0, CONFIG);
    device.write(RAM, 0x1001, Uint8Array.of(9));
    assert.deepEqual(read(device, RAM, 0x1000), [1, 9, 3, 4]);
    assert.throws(() => device.read(RAM, MEMORY, new Uint8Array(4)), { code: "EIO" });
    assert.equal(device.regions[RAM]?.mapping?.fd, device.memory.fd);
  });
});

test("the NVLink2 RAM region is mapped once for each client", () => {
  withDevice((device) => {
    for (let client = 0; client < 2; client++) {
      device.open(new NoClient());
      assert.deepEqual(device.mmap(RAM, 0, 128 * GIB), { fd: device.memory.fd, offset: 0 });
      assert.throws(() => device.mmap(RAM, 0, 4096), { code: "EPERM" });
      device.close();
      runToEnd(device.afterClose());
    }
    assert.throws(() => device.mmap(RAM, 0, 128 * GIB + 1), { code: "EINVAL" });
  });
});

test("nobody is let in while a client of the last owner has the memory through the bridge", () => {
  withDevice((device) => {
    device.memoryClients.open("bridge");
    device.open(new NoClient());
    device.close();
    assert.throws(() => device.open(new NoClient()), { code: "EBUSY" });
    device.memoryClients.close("bridge");
    runToEnd(device.beforeOpen());
    device.open(new NoClient());
  });
});

test("the window moves by 64 KiB, ends where the memory does, and leads nowhere but to the GPU's memory", () => {
  withDevice((device) => {
    write32(device, NV_PBUS_BAR0_WINDOW, 0xff);
    assert.equal(read32(device, NV_PBUS_BAR0_WINDOW), 0xff);
    write32(device, BAR0_WINDOW_START + 0xfffc, 0x12345678);
    assert.equal(read32(device, MEMORY - 4, BAR1), 0x12345678);
    assert.equal(read32(device, BAR0_WINDOW_START + 0x10000) >>> 16, 0xbadf);
    const across = read(device, BAR0, BAR0_WINDOW_START + 0xfffe, 4);
    assert.deepEqual(across, [0x34, 0x12, 0x00, 0x11], "half memory, half the error's low bytes");
    write32(device, BAR0_WINDOW_START + 0x10000, 1);
    for (const target of [1, 2, 3]) {
      write32(device, NV_PBUS_BAR0_WINDOW, (target << 24) | 0xff);
      assert.equal(read32(device, BAR0_WINDOW_START + 0xfffc) >>> 16, 0xbadf);
      write32(device, BAR0_WINDOW_START, 0xffffffff);
    }
    assert.equal(read32(device, MEMORY - 0x10000, BAR1), 0);
  });
});

test("a read of any size and alignment gives the bytes of the 32-bit registers it lies in", () => {
  withDevice((device) => {
    write32(device, LINK_DISABLE, 0x00050000);
    write32(device, BAR0_WINDOW_START, 0x89abcdef);
    const places = fc.constantFrom(0, 0x200, 0x140, 0x9140, 0xa00148, BAR0_WINDOW_START, 0xff0000, 0xfffff0);
    fc.assert(
      fc.property(places, fc.nat(15), fc.integer({ min: 0, max: 40 }), (place, skip, length) => {
        const offset = Math.min(Math.max(0, place - 8) + skip, 2 ** 24 - length);
        const expected = Array.from({ length }, (_, i) => {
          const at = offset + i;
          return (read32(device, at - (at % 4)) >>> (8 * (at % 4))) & 0xff;
        });
        assert.deepEqual(read(device, BAR0, offset, length), expected);
      }),
    );
    const all = new Uint8Array(2 ** 20);
    device.read(BAR0, 0, all);
    assert.equal(new DataView(all.buffer).getUint32(NV_PMC_BOOT_0, true), 0x140000a1);
    assert.equal(new DataView(all.buffer).getUint32(0xffffc, true) >>> 16, 0xbadf);
  });
});

test("a write of a part of a register leaves the rest of it as it is", () => {
  withDevice((device) => {
    const enable = read32(device, NV_PMC_ENABLE);
    device.write(BAR0, NV_PMC_ENABLE, Uint8Array.of(0x21));
    assert.equal(read32(device, NV_PMC_ENABLE), ((enable & ~0xff) | 0x21) >>> 0);
    device.write(BAR0, LINK_DISABLE + 2, Uint8Array.of(0x04));
    assert.equal(read32(device, LINK_DISABLE), 0x00040000);
    device.write(BAR0, LINK_DISABLE + 2, Uint8Array.of(0x01, 0, 0x55));
    assert.equal(read32(device, LINK_DISABLE), 0x00050000, "and one that goes on into the next register does both");
    device.write(BAR0, NV_PMC_INTR_EN_SET, new Uint8Array(Uint32Array.of(0x100000, 0x200000).buffer));
    assert.deepEqual([read32(device, 0x140), read32(device, 0x144)], [0x100000, 0x200000], "8 bytes are two registers");
  });
});

test("a write of a part of a register that cannot be read is lost", () => {
  withDevice((device) => {
    write32(device, NV_PMC_ENABLE, read32(device, NV_PMC_ENABLE) & ~NV_PMC_ENABLE_NVLINK);
    device.write(BAR0, LINK_DISABLE + 2, Uint8Array.of(0x04));
    write32(device, NV_PMC_ENABLE, read32(device, NV_PMC_ENABLE) | NV_PMC_ENABLE_NVLINK);
    assert.equal(read32(device, LINK_DISABLE), 0);
  });
});

test("with memory decoding off no BAR answers; without an address the registers do not", () => {
  withDevice((device) => {
    write32(device, 0x20, 7, BAR1);
    write32(device, COMMAND, 0, CONFIG);
    for (const region of [BAR0, BAR1, BAR3]) {
      assert.deepEqual(read(device, region, 0x20, 3), [0xff, 0xff, 0xff]);
      write32(device, 0x20, 0, region);
    }
    write32(device, COMMAND, 2, CONFIG);
    assert.equal(read32(device, 0x20, BAR1), 7);
    assert.equal(read32(device, NV_PMC_BOOT_0), 0x140000a1);
    write32(device, 0x10, 0, CONFIG);
    assert.equal(read32(device, NV_PMC_BOOT_0), 0xffffffff);
    write32(device, 0x10, 0x5a000000, CONFIG);
    assert.equal(read32(device, NV_PMC_BOOT_0), 0x140000a1, "any other address will do: a hypervisor routes");
  });
});

test("what is not modelled reads as 0xBADFxxxx and is reported once, up to a number of places", () => {
  withDevice((device, _, unmodelled) => {
    for (let i = 0; i < 3; i++) assert.equal(read32(device, 0x88000) >>> 16, 0xbadf);
    write32(device, 0x88000, 1);
    write32(device, 0x1234, 1);
    assert.deepEqual(read(device, BAR3, 6, 2), [0xdf, 0xba]);
    write32(device, 0, 1, BAR3);
    assert.deepEqual(unmodelled, [
      "GPU0: read of BAR0 register 0x088000, which is not modelled",
      "GPU0: write of BAR0 register 0x001234, which is not modelled",
      "GPU0: read of BAR3, which is not modelled",
    ]);
    device.read(BAR0, 0x10000, new Uint8Array(2 ** 20));
    assert.equal(unmodelled.length, 257);
    assert.match(unmodelled[256] ?? "", /no more/);
  });
});

test("config space is read and written in pieces of any size", () => {
  withDevice((device) => {
    assert.deepEqual(read(device, CONFIG, 1, 5).slice(0, 3), [0x10, 0xb1, 0x1d]);
    device.write(CONFIG, 0x10, Uint8Array.of(0, 0, 0, 0x5b, 0, 0, 0, 0));
    assert.equal(read32(device, 0x10, CONFIG), 0x5b000000);
    assert.equal(read(device, CONFIG, 0, 4096).length, 4096);
  });
});

test("from the beginning of a reset until config space is ready nothing answers, and then all is as after power on", () => {
  withDevice((device, machine) => {
    const bridges = machine.gpu(GPU0).gpu.bridges;
    const held = () => bridges.map((bridge) => machine.bridge(bridge).inReset);
    const began = performance.now();
    const reset = device.reset();
    const wait = reset.next().value;
    assert.ok(wait && wait.deadline >= began + 102);
    write32(device, COMMAND, 2, CONFIG);
    write32(device, 0x10, 0x5a000000, CONFIG);
    assert.equal(read32(device, 0, CONFIG), 0xffffffff);
    assert.equal(read32(device, NV_PMC_BOOT_0), 0xffffffff);
    assert.deepEqual(machine.linksUp(GPU0), []);
    assert.deepEqual(held(), [true, true], "the NPU's ends");
    assert.equal(reset.next().done, true);
    assert.equal(read32(device, 0, CONFIG), 0x1db110de);
    assert.deepEqual([read32(device, COMMAND, CONFIG) & 0xffff, read32(device, 0x10, CONFIG)], [0, 0]);
    assert.deepEqual(held(), [false, false]);
    assert.equal(machine.hmis, 0);
  });
});

for (const resetClearsMemory of [false, true]) {
  test(`a reset ${resetClearsMemory ? "clears the memory where that is asked for" : "leaves the memory as it is"}`, () => {
    const machine = new VirtualMachine(builtinMachine("sequoia"), { resetClearsMemory });
    const device = new GpuDevice(machine, GPU0, { memorySize: MEMORY });
    for (const reset of [() => runToEnd(device.reset()), () => machine.secondaryBusReset(GPU0, "firmware")]) {
      device.memory.write(5, Uint8Array.of(1));
      reset();
      write32(device, COMMAND, 2, CONFIG);
      assert.deepEqual(read(device, BAR1, 5, 1), [resetClearsMemory ? 0 : 1]);
    }
    device.dispose();
  });
}

test("a cancelled reset does not leave the GPU in reset", () => {
  withDevice((device) => {
    const steps = device.reset();
    steps.next();
    assert.equal(read32(device, 0, CONFIG), 0xffffffff);
    steps.return();
    assert.equal(read32(device, 0, CONFIG), 0x1db110de);
  });
});

test("the next client sees nothing of the memory of the last, and the last nothing of the next one's", () => {
  withDevice((device) => {
    const fd = duplicateFd(device.regions[BAR1]?.mapping?.fd ?? -1);
    const mapped = new Mapping(fd, 0, 4096, "read-write");
    device.open(new NoClient());
    device.write(BAR1, 0, Uint8Array.of(1, 2));
    device.close();
    runToEnd(device.afterClose());
    mapped.bytes[3] = 3;
    assert.deepEqual(read(device, BAR1, 0), [0, 0, 0, 0]);
    device.write(BAR1, 1, Uint8Array.of(5));
    assert.deepEqual([...mapped.bytes.subarray(0, 4)], [0, 0, 0, 3]);
    assert.notEqual(device.regions[BAR1]?.mapping?.fd, undefined);
    const again = duplicateFd(device.regions[BAR1]?.mapping?.fd ?? -1);
    const next = new Mapping(again, 0, 4096, "read");
    assert.equal(next.bytes[1], 5);
    for (const each of [mapped, next]) each.unmap();
    for (const each of [fd, again]) each.close();
  });
});

test("BAR1 can be mapped in this process, as far as it goes; other regions cannot", () => {
  withDevice((device) => {
    assert.deepEqual(device.mmap(BAR1, 4096, 8192), { fd: device.memory.fd, offset: 4096 });
    for (const [offset, length] of [
      [0, MEMORY + 1],
      [-4096, 4096],
      [0, 0],
    ] as const) {
      assert.throws(() => device.mmap(BAR1, offset, length), { code: "EINVAL" });
    }
    for (const region of [BAR0, 2, CONFIG, 8, 99]) {
      assert.throws(() => device.mmap(region, 0, 4096), { code: "EINVAL" });
    }
    assert.throws(() => device.read(2, 0, new Uint8Array(4)), { code: "EINVAL" });
  });
});

test("a GPU has one device, and again one when that was disposed of", () => {
  const machine = new VirtualMachine(builtinMachine("sequoia"));
  const device = new GpuDevice(machine, GPU0, { memorySize: MEMORY });
  assert.throws(() => new GpuDevice(machine, GPU0), { code: "EBUSY" });
  device.dispose();
  assert.equal(machine.gpu(GPU0).memory, undefined);
  new GpuDevice(machine, GPU0, { memorySize: MEMORY }).dispose();
  assert.throws(() => new GpuDevice(machine, GPU0, { memorySize: 3 }), { code: "EINVAL" });
  assert.equal(machine.gpu(GPU0).memory, undefined);
  assert.throws(() => new GpuDevice(machine, "ffff:00:00.0"), { code: "EVIRTUAL_ADDRESS" });
});

test("without an NPU the GPU works without the RAM region, and says why", () => {
  const machine = new VirtualMachine(builtinMachine("c4140"));
  const [gpu] = machine.machine.gpus;
  assert.ok(gpu);
  const device = new GpuDevice(machine, gpu.address, { memorySize: MEMORY });
  assert.equal(device.regions[9], undefined);
  assert.equal(device.warnings.length, 1);
  assert.match(device.warnings[0] ?? "", /^no NVLink2 RAM region: .* \(ENODEV\); works as over NVLink1$/);
  assert.equal(read32(device, NV_PMC_BOOT_0), 0x140000a1);
  device.dispose();
});

test("a register of software's own raises interrupts without a client being there", () => {
  withDevice((device, machine) => {
    write32(device, NV_PMC_INTR_EN_SET, 0x80000000);
    write32(device, NV_PMC_INTR_SW, 1);
    assert.equal(machine.gpu(GPU0).interruptLine, true);
    assert.equal(read32(device, COMMAND, CONFIG) & 0x80000, 0x80000, "Interrupt Status");
  });
});

test("a window that the host's pages do not fit into is no region", () => {
  const machine = builtinMachine("sequoia");
  const odd = { ...machine, memory: machine.memory.map((each) => ({ ...each, size: each.size - 4096n })) };
  for (const [pageSize, warnings] of [
    [4096, 0],
    [65536, 1],
  ] as const) {
    const device = new GpuDevice(new VirtualMachine(odd), GPU0, { pageSize });
    assert.deepEqual([device.warnings.length, device.regions[9] === undefined], [warnings, warnings === 1]);
    device.dispose();
  }
});
