import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { processorTime } from "../../test/processor_time.js";
import { Container, ContainerMember } from "./container.js";
import type { DeviceClient, DmaRange, VfioDevice, VfioRegion } from "./device.js";
import { VfioError } from "./error.js";
import { pause, runToEnd, type Steps, type Wait } from "./steps.js";

const PAGE = 4096n;
const NO_CLIENT = {} as DeviceClient;

/** A range of a guest's memory, which lies in a file as QEMU shares it. */
function guestRange(address: bigint, size: bigint, changes: Partial<DmaRange> = {}): DmaRange {
  const file = { fd: 3, offset: address, id: "1:100" };
  return { address, size, file, readable: true, writable: true, ...changes };
}

/** The range as another client shares it: the same file by another descriptor. */
function again(range: DmaRange): DmaRange {
  return { ...range, ...(range.file && { file: { ...range.file, fd: range.file.fd + 1 } }) };
}

function throwsCode(code: string, run: () => unknown): void {
  assert.throws(run, (error: unknown) => error instanceof VfioError && error.code === code);
}

/** Notes what it hears of its client's memory. */
class Listener implements VfioDevice {
  regions: (VfioRegion | undefined)[] = [];
  readonly irqs = [];
  readonly mapped = new Set<bigint>();
  readonly calls: string[] = [];
  failure: Error | undefined;

  read(): void {}
  write(): void {}

  open(): void {
    this.calls.push("open");
    if (this.failure !== undefined) throw this.failure;
  }

  close(): void {
    this.calls.push("close");
    if (this.failure !== undefined) throw this.failure;
  }

  dmaMapped({ address }: DmaRange): void {
    if (this.failure !== undefined) throw this.failure;
    this.mapped.add(address);
  }

  dmaUnmapped({ address }: DmaRange): void {
    this.mapped.delete(address);
    if (this.failure !== undefined) throw this.failure;
  }
}

function members(count: number): { container: Container; devices: Listener[]; members: ContainerMember[] } {
  const container = new Container();
  const devices = Array.from({ length: count }, () => new Listener());
  return { container, devices, members: devices.map((device) => new ContainerMember(device, container)) };
}

test("the same map from other members is counted, and its memory counts once until the last has unmapped it", () => {
  const { container, devices, members: all } = members(3);
  const range = guestRange(0n, 4n * PAGE);
  for (const member of all) member.dmaMapped(again(range));
  assert.ok(devices.every(({ mapped }) => mapped.has(0n)));
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, 4n * PAGE]);
  for (const [index, member] of all.entries()) {
    assert.equal(container.pinnedBytes, 4n * PAGE, `${index} have unmapped it`);
    member.dmaUnmapped(again(range));
  }
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [0, 0n]);
});

const base = guestRange(8n * PAGE, 4n * PAGE);
const different: [string, DmaRange][] = [
  ["is shorter", guestRange(8n * PAGE, 2n * PAGE)],
  ["is longer", guestRange(8n * PAGE, 8n * PAGE)],
  ["begins before", guestRange(7n * PAGE, 4n * PAGE)],
  ["begins within", guestRange(9n * PAGE, PAGE)],
  ["begins with its last byte", guestRange(12n * PAGE - 1n, 1n)],
  ["contains it", guestRange(0n, 100n * PAGE)],
  ["is at another offset", { ...base, file: { fd: 3, offset: 0n, id: "1:100" } }],
  ["is another file's", { ...base, file: { fd: 3, offset: 8n * PAGE, id: "1:101" } }],
  ["has no file", { address: base.address, size: base.size, readable: true, writable: true }],
  ["may only be read", { ...base, writable: false }],
  ["may only be written", { ...base, readable: false }],
];

for (const [name, range] of different) {
  test(`a map over another member's that ${name} is EEXIST, and leaves nothing behind`, () => {
    const { container, devices, members: all } = members(2);
    const [first, second] = all as [ContainerMember, ContainerMember];
    first.dmaMapped(base);
    throwsCode("EEXIST", () => second.dmaMapped(range));
    assert.equal(devices[1]?.mapped.size, 0, "the device has not heard of it");
    assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, base.size]);
    second.dmaMapped(again(base));
    second.dmaUnmapped(again(base));
    first.dmaUnmapped(base);
    second.dmaMapped(range);
    assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, range.file === undefined ? 0n : range.size]);
  });
}

test("a member that maps its own range again is refused, and ranges side by side are not", () => {
  const { container, members: all } = members(1);
  const [member] = all as [ContainerMember];
  member.dmaMapped(base);
  throwsCode("EEXIST", () => member.dmaMapped(again(base)));
  member.dmaMapped(guestRange(12n * PAGE, PAGE));
  member.dmaMapped(guestRange(7n * PAGE, PAGE));
  member.dmaMapped(guestRange((1n << 64n) - PAGE, PAGE));
  assert.equal(container.rangeCount, 4);
  throwsCode("EINVAL", () => member.dmaMapped(guestRange(0n, 0n)));
  throwsCode("EINVAL", () => member.dmaMapped(guestRange((1n << 64n) - PAGE, PAGE + 1n)));
});

test("memory without a file is the same when its addresses are, and pins nothing", () => {
  const { container, members: all } = members(2);
  const range: DmaRange = { address: 0n, size: PAGE, readable: true, writable: true };
  for (const member of all) member.dmaMapped({ ...range });
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, 0n]);
  for (const member of all) member.dmaUnmapped({ ...range });
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [0, 0n]);
});

test("a map that the device refuses is nobody's, and one that another member has stays that one's", () => {
  const { container, devices, members: all } = members(2);
  const [first, second] = all as [ContainerMember, ContainerMember];
  const [, device] = devices as [Listener, Listener];
  device.failure = new VfioError("ENOSPC", "full");
  throwsCode("ENOSPC", () => second.dmaMapped(base));
  assert.equal(container.rangeCount, 0);
  first.dmaMapped(base);
  throwsCode("ENOSPC", () => second.dmaMapped(again(base)));
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, base.size]);
  first.dmaUnmapped(base);
  assert.equal(container.rangeCount, 0);
});

test("an unmapping that the device fails takes the range back all the same, and says so", () => {
  const { container, devices, members: all } = members(1);
  all[0]?.dmaMapped(base);
  if (devices[0] !== undefined) devices[0].failure = new VfioError("EIO", "stuck");
  throwsCode("EIO", () => all[0]?.dmaUnmapped(base));
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [0, 0n]);
});

test("unmapping what a member has not mapped changes nothing", () => {
  const { container, members: all } = members(2);
  const [first, second] = all as [ContainerMember, ContainerMember];
  first.dmaMapped(base);
  second.dmaUnmapped(base);
  second.dmaUnmapped(guestRange(9n * PAGE, PAGE));
  first.dmaUnmapped(guestRange(9n * PAGE, PAGE));
  assert.equal(container.rangeCount, 1);
});

test("a member that closes drops all its maps, and nobody else's, even when the device fails to close", () => {
  const { container, devices, members: all } = members(2);
  const [first, second] = all as [ContainerMember, ContainerMember];
  for (let page = 0n; page < 100n; page++) first.dmaMapped(guestRange(page * PAGE, PAGE));
  second.dmaMapped(guestRange(7n * PAGE, PAGE));
  if (devices[0] !== undefined) devices[0].failure = new VfioError("EIO", "stuck");
  throwsCode("EIO", () => first.close());
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [1, PAGE]);
  second.close();
  assert.deepEqual([container.rangeCount, container.pinnedBytes], [0, 0n]);
});

test("registered memory of a device is found by later maps and not counted, until it is dropped", () => {
  const container = new Container();
  const [one, other] = [{}, {}];
  const memory = (address: bigint, size: bigint): DmaRange =>
    guestRange(address, size, { file: { fd: 9, offset: 0n, id: "gpu" } });
  container.map(one, memory(0n, PAGE));
  assert.equal(container.pinnedBytes, PAGE, "mapped before it was registered");
  container.registerDeviceMemory("gpu", 16 * 2 ** 30);
  container.map(one, memory(2n ** 40n, 2n ** 34n));
  container.map(other, memory(2n ** 40n, 2n ** 34n));
  container.map(one, guestRange(2n ** 41n, PAGE));
  assert.equal(container.pinnedBytes, 2n * PAGE);
  container.map(one, memory(2n ** 42n, 2n ** 34n + 1n));
  assert.equal(container.pinnedBytes, 2n * PAGE + 2n ** 34n + 1n, "more than is registered is not found");
  container.unregisterDeviceMemory("gpu");
  container.unmap(one, memory(2n ** 40n, 2n ** 34n));
  container.unmap(other, memory(2n ** 40n, 2n ** 34n));
  assert.equal(container.pinnedBytes, 2n * PAGE + 2n ** 34n + 1n);
  container.map(one, memory(2n ** 40n, PAGE));
  assert.equal(container.pinnedBytes, 3n * PAGE + 2n ** 34n + 1n);
  container.leave(one);
  container.leave(other);
  assert.equal(container.pinnedBytes, 0n);
});

test("memory that is registered twice is dropped with the second, and has one size", () => {
  const container = new Container();
  const isFound = () => {
    container.map(container, guestRange(0n, PAGE, { file: { fd: 9, offset: 0n, id: "gpu" } }));
    const found = container.pinnedBytes === 0n;
    container.leave(container);
    return found;
  };
  container.registerDeviceMemory("gpu", 8192);
  container.registerDeviceMemory("gpu", 8192n);
  throwsCode("EINVAL", () => container.registerDeviceMemory("gpu", 4096));
  throwsCode("EINVAL", () => container.registerDeviceMemory("none", 0));
  container.unregisterDeviceMemory("gpu");
  assert.equal(isFound(), true);
  container.unregisterDeviceMemory("gpu");
  container.unregisterDeviceMemory("gpu");
  assert.equal(isFound(), false);
  container.registerDeviceMemory("gpu", 4096);
  assert.equal(isFound(), true);
});

test("a member registers its device's memory when a client comes, and drops it when the client goes", () => {
  const { container, devices, members: all } = members(2);
  const plain = { size: 8192, readable: true, writable: true };
  const region = { ...plain, deviceMemory: { id: "gpu", size: 8192 } };
  for (const device of devices) device.regions = [region, undefined, { ...region, size: 4096 }, plain];
  const [first, second] = all as [ContainerMember, ContainerMember];
  const isFound = () => {
    container.map(container, guestRange(0n, PAGE, { file: { fd: 9, offset: PAGE, id: "gpu" } }));
    const found = container.pinnedBytes === 0n;
    container.leave(container);
    return found;
  };
  first.open(NO_CLIENT);
  second.open(NO_CLIENT);
  first.close();
  assert.equal(isFound(), true);
  second.close();
  assert.equal(isFound(), false);
  if (devices[0] !== undefined) devices[0].failure = new VfioError("ENODEV", "gone");
  throwsCode("ENODEV", () => first.open(NO_CLIENT));
  assert.equal(isFound(), false, "a device that does not open has none registered");
});

test("a member has the optional methods that its device has, and passes everything on", () => {
  const bare = new ContainerMember({ regions: [], irqs: [], read() {}, write() {} }, new Container());
  const optional = ["reset", "beforeOpen", "afterClose", "mmap", "ioevent", "setIrqs"] as const;
  for (const name of optional) assert.ok(!(name in bare), name);
  bare.open(NO_CLIENT);
  bare.dmaMapped(base);
  bare.dmaUnmapped(base);
  bare.close();
  const calls: unknown[] = [];
  class Whole implements VfioDevice {
    readonly #name = "whole";
    readonly regions = [{ size: 4096, readable: true, writable: true }];
    readonly irqs = [{ flags: 1, count: 1 }];
    read(...args: [number, number, Uint8Array]): void {
      calls.push([this.#name, "read", ...args]);
    }
    write(...args: [number, number, Uint8Array]): void {
      calls.push([this.#name, "write", ...args]);
    }
    *reset(): Steps {
      yield* pause(0);
      calls.push([this.#name, "reset"]);
    }
    *beforeOpen(): Steps {
      yield* pause(0);
      calls.push([this.#name, "beforeOpen"]);
    }
    open(client: DeviceClient): void {
      calls.push([this.#name, "open", client]);
    }
    close(): void {
      calls.push([this.#name, "close"]);
    }
    *afterClose(): Steps {
      yield* pause(0);
      calls.push([this.#name, "afterClose"]);
    }
    mmap(...args: [number, number, number]): { fd: number; offset: number } {
      calls.push([this.#name, "mmap", ...args]);
      return { fd: 7, offset: 8 };
    }
    ioevent(...args: unknown[]): void {
      calls.push([this.#name, "ioevent", ...args]);
    }
    setIrqs(...args: unknown[]): void {
      calls.push([this.#name, "setIrqs", ...args]);
    }
  }
  const device = new Whole();
  const member = new ContainerMember(device, new Container());
  assert.equal(member.regions, device.regions);
  assert.equal(member.irqs, device.irqs);
  const data = new Uint8Array(4);
  const set = { index: 0, start: 0, count: 0, action: "trigger", data: { kind: "none" } } as const;
  if (member.beforeOpen !== undefined) runToEnd(member.beforeOpen());
  member.open(NO_CLIENT);
  member.read(0, 4, data);
  member.write(0, 8, data);
  if (member.reset !== undefined) runToEnd(member.reset());
  assert.deepEqual(member.mmap?.(0, 0, 4096), { fd: 7, offset: 8 });
  member.ioevent?.(0, { offset: 4, size: 4 });
  member.setIrqs?.(set, [5]);
  member.close();
  if (member.afterClose !== undefined) runToEnd(member.afterClose());
  assert.deepEqual(calls, [
    ["whole", "beforeOpen"],
    ["whole", "open", NO_CLIENT],
    ["whole", "read", 0, 4, data],
    ["whole", "write", 0, 8, data],
    ["whole", "reset"],
    ["whole", "mmap", 0, 0, 4096],
    ["whole", "ioevent", 0, { offset: 4, size: 4 }],
    ["whole", "setIrqs", set, [5]],
    ["whole", "close"],
    ["whole", "afterClose"],
  ]);
});

/** Runs what a member does before a map up to its first wait. @returns whether that can be over, undefined when there is none */
function waitOf(member: ContainerMember, range: DmaRange): { isOver: () => boolean; steps: Steps } | undefined {
  const steps = member.beforeDmaMap(range);
  const result = steps.next();
  return result.done === true ? undefined : { isOver: () => result.value.done?.() === true, steps };
}

test("only a range of other members makes a map wait, until the last of them has unmapped it or its client is gone", () => {
  const { members: all } = members(3);
  const [first, second, third] = all as [ContainerMember, ContainerMember, ContainerMember];
  for (const member of all) member.open(NO_CLIENT);
  const wider = guestRange(8n * PAGE, 8n * PAGE);
  assert.equal(waitOf(first, base), undefined, "nothing is there");
  first.dmaMapped(base);
  assert.equal(waitOf(second, again(base)), undefined, "the same");
  assert.equal(waitOf(first, wider), undefined, "its own will not go while it waits");
  second.dmaMapped(again(base));
  const [waits, leaves] = [waitOf(third, wider), waitOf(third, wider)];
  first.dmaUnmapped(base);
  assert.equal(waits?.isOver(), false);
  second.dmaUnmapped(base);
  assert.equal(waits?.isOver(), true);
  second.dmaMapped(base);
  assert.equal(leaves?.isOver(), false);
  third.close();
  assert.equal(leaves?.isOver(), true);
});

test("a client that has waited in vain once is not made to wait again, and the next one is", () => {
  const { members: all } = members(2);
  const [first, second] = all as [ContainerMember, ContainerMember];
  first.open(NO_CLIENT);
  second.open(NO_CLIENT);
  first.dmaMapped(base);
  const wider = guestRange(8n * PAGE, 8n * PAGE);
  const began = performance.now();
  runToEnd(second.beforeDmaMap(wider));
  assert.ok(performance.now() - began >= 499);
  throwsCode("EEXIST", () => second.dmaMapped(wider));
  assert.equal(waitOf(second, wider), undefined);
  second.close();
  second.open(NO_CLIENT);
  assert.notEqual(waitOf(second, wider), undefined);
});

test("a member waits for what its device waits for, too", () => {
  const waited: bigint[] = [];
  class Waiting extends Listener {
    *beforeDmaMap({ address }: DmaRange): Steps {
      yield* pause(0);
      waited.push(address);
    }
  }
  runToEnd(new ContainerMember(new Waiting(), new Container()).beforeDmaMap(base));
  assert.deepEqual(waited, [base.address]);
});

/** Cuts 64 pages into ranges, each of one of three files or empty, as a guest's memory is laid out at one time. */
const layouts = fc.array(
  fc.array(fc.record({ pages: fc.integer({ min: 1, max: 12 }), file: fc.integer({ min: 0, max: 3 }) }), {
    minLength: 1,
    maxLength: 10,
  }),
  { minLength: 1, maxLength: 6 },
);

function rangesOf(layout: readonly { pages: number; file: number }[]): Map<string, DmaRange> {
  const ranges = new Map<string, DmaRange>();
  let page = 0n;
  for (const { pages, file } of layout) {
    const range = guestRange(page * PAGE, BigInt(pages) * PAGE, { file: { fd: 3, offset: 0n, id: `1:${file}` } });
    if (file > 0) ranges.set(`${page} ${pages} ${file}`, range);
    page += BigInt(pages);
  }
  return ranges;
}

/** What one client says of a change of the layout: first all that goes, then all that comes. */
function* follow(member: ContainerMember, gone: readonly DmaRange[], come: readonly DmaRange[]): Steps {
  for (const range of gone) {
    yield { deadline: 0 };
    member.dmaUnmapped(again(range));
  }
  for (const range of come) {
    yield { deadline: 0 };
    yield* member.beforeDmaMap(again(range));
    member.dmaMapped(again(range));
  }
}

/** Runs all to their ends, each time one of those that can go on whatever the time is. */
function interleave(all: readonly Steps[], choose: () => number): void {
  const running = all.map((steps) => ({ steps, wait: { deadline: 0 } as Wait }));
  while (running.length > 0) {
    const free = running.filter(({ wait }) => wait.deadline === 0 || wait.done?.() === true);
    const next = free[choose() % free.length];
    assert.ok(next !== undefined, "all wait for each other");
    const result = next.steps.next();
    if (result.done === true) running.splice(running.indexOf(next), 1);
    else next.wait = result.value;
  }
}

test("clients that change from layout to layout as QEMU does all have the same ranges, however they interleave", () => {
  fc.assert(
    fc.property(fc.integer({ min: 2, max: 6 }), layouts, fc.infiniteStream(fc.nat()), (count, all, choices) => {
      const { container, devices, members: clients } = members(count);
      for (const client of clients) client.open(NO_CLIENT);
      let before = new Map<string, DmaRange>();
      for (const layout of all) {
        const after = rangesOf(layout);
        const gone = [...before].filter(([name]) => !after.has(name)).map(([, range]) => range);
        const come = [...after].filter(([name]) => !before.has(name)).map(([, range]) => range);
        // Nothing of the next change is said before everybody has answered.
        interleave(
          clients.map((client) => follow(client, gone, come)),
          () => Number(choices.next().value),
        );
        const addresses = new Set([...after.values()].map(({ address }) => address));
        for (const { mapped } of devices) assert.deepEqual(mapped, addresses);
        assert.equal(container.rangeCount, after.size);
        before = after;
      }
    }),
    { numRuns: 300 },
  );
});

test("18 members that map 10,000 ranges each take microseconds for each", () => {
  const { container, members: all } = members(18);
  const took = processorTime(() => {
    for (const member of all)
      for (let page = 0n; page < 10_000n; page++) member.dmaMapped(guestRange(page * PAGE, PAGE));
    assert.deepEqual([container.rangeCount, container.pinnedBytes], [10_000, 10_000n * PAGE]);
    for (const member of all)
      for (let page = 0n; page < 10_000n; page++) member.dmaUnmapped(guestRange(page * PAGE, PAGE));
  });
  const each = took / 180_000;
  assert.equal(container.rangeCount, 0);
  assert.ok(each < 0.05, `${(each * 1000).toFixed(1)} µs for each`);
});
