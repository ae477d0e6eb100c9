import assert from "node:assert/strict";
import { test } from "node:test";
import { Container, ContainerMember, type DmaBackend } from "./container.js";
import type { DeviceClient, DmaRange, VfioDevice } from "./device.js";
import { VfioError } from "./error.js";
import { runToEnd, type Steps } from "./steps.js";

const PAGE = 4096n;
const NO_CLIENT = {} as DeviceClient;
const NOBODY: VfioDevice = { regions: [], irqs: [], read() {}, write() {} };

/** Notes what it is asked for. Each map waits until {@link go}; what is taken back is gone after {@link settle}. */
class MadeUpBackend implements DmaBackend {
  readonly mapped = new Set<bigint>();
  readonly calls: string[] = [];
  isOpen = true;
  failure: Error | undefined;

  *map({ address, file }: DmaRange): Steps {
    assert.notEqual(file, undefined, "a range without a file");
    this.calls.push(`map ${address}`);
    let done = false;
    try {
      while (!this.isOpen) yield { deadline: performance.now() + 1000, done: () => this.isOpen };
      if (this.failure !== undefined) throw this.failure;
      assert.ok(!this.mapped.has(address), "mapped twice");
      this.mapped.add(address);
      done = true;
    } finally {
      if (!done) this.calls.push(`not ${address}`);
    }
  }

  unmap({ address, size }: DmaRange): void {
    assert.ok(size > 0n && this.mapped.delete(address), "what was not mapped is taken back");
    this.calls.push(`unmap ${address}`);
  }

  *settle(): Steps {
    this.calls.push("settle");
    yield { deadline: 0 };
  }
}

function range(address: bigint, changes: Partial<DmaRange> = {}): DmaRange {
  return { address, size: PAGE, file: { fd: 3, offset: 0n, id: "1:2" }, readable: true, writable: true, ...changes };
}

function inAContainer(count: number): { backend: MadeUpBackend; container: Container; members: ContainerMember[] } {
  const backend = new MadeUpBackend();
  const container = new Container(backend);
  const members = Array.from({ length: count }, () => new ContainerMember(NOBODY, container));
  for (const member of members) member.open(NO_CLIENT);
  return { backend, container, members };
}

function pair(): { backend: MadeUpBackend; container: Container; first: ContainerMember; second: ContainerMember } {
  const { backend, container, members } = inAContainer(2);
  const [first, second] = members as [ContainerMember, ContainerMember];
  return { backend, container, first, second };
}

function map(member: ContainerMember, of: DmaRange): void {
  runToEnd(member.beforeDmaMap(of));
  member.dmaMapped(of);
}

function throwsCode(code: string, run: () => unknown): void {
  assert.throws(run, (error: unknown) => error instanceof VfioError && error.code === code);
}

/** Whether steps go on when they are asked now. */
function goesOn(steps: Steps): boolean {
  const { done, value } = steps.next();
  return done === true || value?.done?.() === true;
}

test("the first member that maps a range has the backend map it, and the last that unmaps it has it taken back", () => {
  const { backend, container, first, second } = pair();
  map(first, range(0n));
  map(second, range(0n));
  assert.deepEqual([backend.calls, container.fileRangeCount], [["map 0"], 1]);
  first.dmaUnmapped(range(0n));
  assert.deepEqual(backend.calls, ["map 0"]);
  second.dmaUnmapped(range(0n));
  assert.deepEqual([backend.calls, container.fileRangeCount, container.rangeCount], [["map 0", "unmap 0"], 0, 0]);
});

test("what a client has mapped is taken back with it, also what was about to be mapped", () => {
  const { backend, container, first } = pair();
  map(first, range(0n));
  runToEnd(first.beforeDmaMap(range(PAGE)));
  first.close();
  assert.deepEqual([backend.mapped.size, container.rangeCount, container.pinnedBytes], [0, 0, 0n]);
  assert.deepEqual(backend.calls, ["map 0", "map 4096", "unmap 0", "unmap 4096"]);
});

test("a second member with the same range waits until it is mapped, and is then counted", () => {
  const { backend, container, first, second } = pair();
  backend.isOpen = false;
  const [one, two] = [first.beforeDmaMap(range(0n)), second.beforeDmaMap(range(0n))];
  assert.equal(goesOn(one), false);
  assert.equal(goesOn(two), false);
  backend.isOpen = true;
  runToEnd(one);
  first.dmaMapped(range(0n));
  first.dmaUnmapped(range(0n));
  assert.deepEqual([backend.calls.at(-1), container.rangeCount], ["unmap 0", 0]);
  runToEnd(two);
  second.dmaMapped(range(0n));
  assert.deepEqual([backend.mapped.has(0n), container.rangeCount], [true, 1]);
});

test("a range that is prepared for a member stays mapped until it has mapped it, whoever unmaps it meanwhile", () => {
  const { backend, first, second } = pair();
  map(first, range(0n));
  runToEnd(second.beforeDmaMap(range(0n)));
  first.dmaUnmapped(range(0n));
  assert.ok(backend.mapped.has(0n));
  second.dmaMapped(range(0n));
  second.dmaUnmapped(range(0n));
  assert.ok(!backend.mapped.has(0n));
});

test("a map that the backend refuses is nobody's, and a member that waited for it tries itself", () => {
  const { backend, container, first, second } = pair();
  backend.isOpen = false;
  backend.failure = new VfioError("ENOMEM", "no");
  const [one, two] = [first.beforeDmaMap(range(0n)), second.beforeDmaMap(range(0n))];
  one.next();
  two.next();
  backend.isOpen = true;
  throwsCode("ENOMEM", () => runToEnd(one));
  assert.deepEqual([container.rangeCount, container.pinnedBytes, container.fileRangeCount], [0, 0n, 0]);
  backend.failure = undefined;
  runToEnd(two);
  second.dmaMapped(range(0n));
  assert.deepEqual(backend.calls, ["map 0", "not 0", "map 0"]);
  throwsCode("EINVAL", () => first.dmaMapped(range(PAGE)));
  map(first, range(0n));
});

test("a map that is cancelled while the backend is at it is nobody's, and a member that waited for it maps it", () => {
  const { backend, container, first, second } = pair();
  backend.isOpen = false;
  const [one, two] = [first.beforeDmaMap(range(0n)), second.beforeDmaMap(range(0n))];
  one.next();
  two.next();
  one.return();
  assert.equal(container.rangeCount, 0);
  backend.isOpen = true;
  runToEnd(two);
  assert.deepEqual(backend.calls, ["map 0", "not 0", "map 0"]);
  two.return();
  second.close();
  assert.equal(backend.mapped.size, 0);
});

test("a member that is cancelled while it waits for another's map changes nothing", () => {
  const { backend, container, first, second } = pair();
  backend.isOpen = false;
  const [one, two] = [first.beforeDmaMap(range(0n)), second.beforeDmaMap(range(0n))];
  one.next();
  two.next();
  two.return();
  backend.isOpen = true;
  runToEnd(one);
  first.dmaMapped(range(0n));
  second.close();
  assert.deepEqual([backend.calls, container.rangeCount], [["map 0"], 1]);
});

test("a client that goes while its range is being mapped has mapped nothing, and the next client's maps are its own", () => {
  const { backend, container, first } = pair();
  backend.isOpen = false;
  const steps = first.beforeDmaMap(range(0n));
  steps.next();
  first.close();
  first.open(NO_CLIENT);
  backend.isOpen = true;
  throwsCode("ECANCELED", () => runToEnd(steps));
  assert.deepEqual([backend.calls, container.rangeCount], [["map 0", "unmap 0", "settle"], 0]);
  map(first, range(0n));
  assert.equal(container.rangeCount, 1);
});

test("a range that nobody prepared is refused, and one that overlaps another's reaches no backend", () => {
  const { backend, container, first, second } = pair();
  throwsCode("EINVAL", () => first.dmaMapped(range(0n)));
  map(first, range(0n));
  throwsCode("EINVAL", () => second.dmaMapped(range(0n)));
  second.close();
  throwsCode("EEXIST", () => runToEnd(second.beforeDmaMap(range(0n, { size: 2n * PAGE }))));
  throwsCode("EEXIST", () => runToEnd(first.beforeDmaMap(range(0n))));
  throwsCode("EINVAL", () => runToEnd(first.beforeDmaMap(range(0n, { size: 0n }))));
  assert.deepEqual([backend.calls, container.rangeCount], [["map 0"], 1]);
});

test("ranges without a file are left out of the backend, which is told once for each client", () => {
  const backend = new MadeUpBackend();
  const told: bigint[] = [];
  const container = new Container(backend, (_, { address }) => told.push(address));
  const member = new ContainerMember(NOBODY, container);
  const { file: _, ...bare } = range(0n);
  for (let client = 0; client < 2; client++) {
    member.open(NO_CLIENT);
    for (const address of [PAGE, 2n * PAGE]) map(member, { ...bare, address });
    map(member, range(0n));
    assert.deepEqual([container.rangeCount, container.fileRangeCount], [3, 1]);
    member.close();
  }
  assert.deepEqual(told, [PAGE, PAGE]);
  assert.deepEqual(backend.calls, ["map 0", "unmap 0", "map 0", "unmap 0"]);
});

test("without a backend nobody is told of ranges without a file, and there is nothing to wait for", () => {
  const container = new Container(undefined, () => assert.fail("told"));
  const member = new ContainerMember(NOBODY, container);
  const { file: _, ...bare } = range(0n);
  map(member, bare);
  map(member, range(PAGE));
  runToEnd(member.afterDmaUnmap());
  assert.equal(container.fileRangeCount, 1);
});

test("after an unmapping a member waits for the backend, and for its device", () => {
  const backend = new MadeUpBackend();
  let waited = false;
  const device: VfioDevice = {
    ...NOBODY,
    *afterDmaUnmap() {
      yield { deadline: 0 };
      waited = true;
    },
  };
  runToEnd(new ContainerMember(device, new Container(backend)).afterDmaUnmap());
  assert.deepEqual([backend.calls, waited], [["settle"], true]);
});

test("a device that refuses a map has it taken back", () => {
  const backend = new MadeUpBackend();
  const container = new Container(backend);
  const device: VfioDevice = {
    ...NOBODY,
    dmaMapped() {
      throw new VfioError("EIO", "no");
    },
  };
  const member = new ContainerMember(device, container);
  throwsCode("EIO", () => map(member, range(0n)));
  assert.deepEqual([backend.calls, container.rangeCount], [["map 0", "unmap 0"], 0]);
});
