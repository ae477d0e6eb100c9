import assert from "node:assert/strict";
import { totalmem } from "node:os";
import { test } from "node:test";
import { type CallThread, type Fd, libc, type NativeMemory, OsError } from "../../os/index.js";
import { runToEnd, VfioError } from "../../vfio/index.js";
import type { MappedMemory } from "./address_space.js";
import {
  VFIO_IOMMU_MAP_DMA,
  VFIO_IOMMU_SPAPR_REGISTER_MEMORY,
  VFIO_IOMMU_SPAPR_TCE_CREATE,
  VFIO_IOMMU_SPAPR_TCE_GET_INFO,
  VFIO_IOMMU_SPAPR_TCE_REMOVE,
  VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY,
  VFIO_IOMMU_UNMAP_DMA,
} from "./requests.js";
import { SECOND_WINDOW, TceSpace } from "./tce_space.js";

const [EPERM, ENOENT, ENXIO, ENOMEM, EBUSY, EINVAL] = [1, 2, 6, 12, 16, 22];
const PAGE_SIZES = (1n << 12n) | (1n << 16n) | (1n << 21n) | (1n << 30n);
const FIRST_WINDOW = 2n ** 31n;

interface Window {
  size: bigint;
  page: bigint;
}

/** As `vfio_iommu_spapr_tce.c`, for whole ranges. It is asked in order, and answers when it is let. */
class TceKernel {
  /** By first address. */
  readonly windows = new Map<bigint, Window>([[0n, { size: FIRST_WINDOW, page: 4096n }]]);
  /** Sizes by address in the process. */
  readonly registered = new Map<bigint, bigint>();
  /** Addresses in the process by those of the device. */
  readonly mapped = new Map<bigint, bigint>();
  windowsAtMost = 2;
  pinnable = 2n ** 40n;
  isSlow = false;
  readonly #waiting: (() => void)[] = [];

  readonly thread = {
    start: (_: "ioctl", __: Fd, request: number, { view }: NativeMemory) => {
      let errno: number | undefined;
      const answer = () => {
        errno = this.#answer(request, view);
      };
      if (this.isSlow) this.#waiting.push(answer);
      else answer();
      return {
        get isDone() {
          return errno !== undefined;
        },
        result: () => {
          if (errno !== 0) throw new OsError("ioctl", errno ?? 11);
          return 0;
        },
      };
    },
  } as unknown as CallThread;

  /** Answers what it has been asked. */
  catchUp(): void {
    for (const answer of this.#waiting.splice(0)) answer();
  }

  #answer(request: number, view: DataView): number {
    const [first, second, third] = [8, 16, 24].map((at) =>
      at + 8 <= view.byteLength ? view.getBigUint64(at, true) : 0n,
    );
    assert.equal(view.getUint32(0, true), view.byteLength, "argsz");
    if (first === undefined || second === undefined || third === undefined) return EINVAL;
    switch (request) {
      case VFIO_IOMMU_SPAPR_TCE_GET_INFO:
        view.setUint32(4, 1, true);
        view.setUint32(12, Number(FIRST_WINDOW), true);
        view.setBigUint64(16, PAGE_SIZES, true);
        view.setUint32(24, this.windowsAtMost, true);
        view.setUint32(28, 5, true);
        return 0;
      case VFIO_IOMMU_SPAPR_TCE_CREATE: {
        const [page, levels] = [1n << BigInt(view.getUint32(8, true)), view.getUint32(24, true)];
        if (this.windows.size >= this.windowsAtMost || (second & (second - 1n)) !== 0n || levels < 1) return EINVAL;
        this.windows.set(SECOND_WINDOW, { size: second, page });
        view.setBigUint64(32, SECOND_WINDOW, true);
        return 0;
      }
      case VFIO_IOMMU_SPAPR_TCE_REMOVE:
        return this.windows.delete(first) ? 0 : EINVAL;
      case VFIO_IOMMU_SPAPR_REGISTER_MEMORY:
        if (this.registered.has(first)) return EBUSY;
        if (second > this.pinnable) return ENOMEM;
        this.registered.set(first, second);
        return 0;
      case VFIO_IOMMU_SPAPR_UNREGISTER_MEMORY:
        if ([...this.mapped.values()].includes(first)) return EBUSY;
        return this.registered.delete(first) ? 0 : ENOENT;
      case VFIO_IOMMU_MAP_DMA:
        if (!this.#translates(second)) return ENXIO;
        if (!this.registered.has(first)) return EPERM;
        this.mapped.set(second, first);
        return 0;
      case VFIO_IOMMU_UNMAP_DMA:
        this.mapped.delete(first);
        return this.#translates(first) ? 0 : ENXIO;
      default:
        throw new Error(`request ${request.toString(16)}`);
    }
  }

  #translates(address: bigint): boolean {
    return [...this.windows].some(([start, { size }]) => address >= start && address < start + size);
  }

  get isEmpty(): boolean {
    return this.mapped.size === 0 && this.registered.size === 0 && this.windows.size === 1;
  }
}

function setUp(): { kernel: TceKernel; space: TceSpace } {
  const kernel = new TceKernel();
  return { kernel, space: new TceSpace({} as Fd, kernel.thread) };
}

function memory(iova: bigint, size = 0x10000n, address = 0x7fff_0000_0000 + Number(iova % FIRST_WINDOW)): MappedMemory {
  return { iova, size, address, readable: true, writable: true };
}

function refuses(code: string, run: () => void, words = /./): void {
  assert.throws(run, (error) => error instanceof VfioError && error.code === code && words.test(error.message));
}

test("memory in the first window is registered, then mapped, and both are undone", () => {
  const { kernel, space } = setUp();
  const range = memory(0x10000n);
  runToEnd(space.map(range));
  assert.deepEqual([...kernel.mapped], [[0x10000n, BigInt(range.address)]]);
  assert.deepEqual([...kernel.registered], [[BigInt(range.address), 0x10000n]]);
  assert.equal(kernel.windows.size, 1);
  runToEnd(space.unmap(range));
  assert.ok(kernel.isEmpty);
});

test("the second window is there with the first range in it, as large as the host's memory, and goes with the last", () => {
  const { kernel, space } = setUp();
  const ranges = [memory(SECOND_WINDOW), memory(SECOND_WINDOW + 0x40000n)];
  for (const round of [1, 2]) {
    for (const range of ranges) runToEnd(space.map(range));
    const { size = 0n, page = 0n } = kernel.windows.get(SECOND_WINDOW) ?? {};
    assert.ok(size >= BigInt(totalmem()) && size < 2n * BigInt(totalmem()), `${size} bytes, round ${round}`);
    assert.ok(page <= BigInt(libc().getpagesize()));
    for (const [index, range] of ranges.entries()) {
      assert.ok(kernel.windows.has(SECOND_WINDOW), `it is gone before range ${index}`);
      runToEnd(space.unmap(range));
    }
    assert.ok(kernel.isEmpty);
  }
});

test("a range that is not within one window is refused, with the windows in words, and nothing is registered", () => {
  const { kernel, space } = setUp();
  const end = SECOND_WINDOW + 2n ** BigInt(Math.ceil(Math.log2(totalmem())));
  for (const iova of [FIRST_WINDOW, FIRST_WINDOW - 0x8000n, SECOND_WINDOW - 0x8000n, end - 0x8000n, end]) {
    refuses(
      "ENXIO",
      () => runToEnd(space.map(memory(iova))),
      /outside .*: 0x0 \+ 0x80000000 and 0x800000000000000 \+ 0x/,
    );
  }
  refuses("EINVAL", () => runToEnd(space.map(memory(0n, 0n))));
  assert.ok(kernel.isEmpty);
});

test("an IOMMU that has one window only is not asked for another", () => {
  const { kernel, space } = setUp();
  kernel.windowsAtMost = 1;
  refuses("ENXIO", () => runToEnd(space.map(memory(SECOND_WINDOW))), /: 0x0 \+ 0x80000000 \(/);
  assert.ok(kernel.isEmpty);
});

test("what is mapped is not mapped over, which the kernel would do", () => {
  const { kernel, space } = setUp();
  runToEnd(space.map(memory(0x20000n)));
  for (const iova of [0x18000n, 0x20000n, 0x28000n]) {
    const other = memory(iova, 0x10000n, 1 << 20);
    refuses("EEXIST", () => runToEnd(space.map(other)));
    runToEnd(space.unmap(other));
  }
  assert.deepEqual([...kernel.mapped.keys()], [0x20000n]);
  assert.equal(kernel.registered.size, 1);
  runToEnd(space.unmap(memory(0x20000n)));
  assert.ok(kernel.isEmpty);
});

test("a map that is refused leaves nothing, and to unmap it is no error", () => {
  const { kernel, space } = setUp();
  runToEnd(space.map(memory(0n)));
  kernel.pinnable = 0x8000n;
  for (const iova of [0x100000n, SECOND_WINDOW]) {
    refuses("ENOMEM", () => runToEnd(space.map(memory(iova, 0x10000n, 1 << 20))));
    runToEnd(space.unmap(memory(iova, 0x10000n, 1 << 20)));
  }
  // Registered for another range: the kernel maps it, though it refuses to register it again.
  const { address } = memory(0n);
  const again = memory(0x200000n, 0x10000n, address);
  refuses("EBUSY", () => runToEnd(space.map(again)));
  runToEnd(space.unmap(again));
  assert.deepEqual([...kernel.mapped.keys()], [0n]);
  runToEnd(space.unmap(memory(0n)));
  assert.ok(kernel.isEmpty);
});

test("a map that is cancelled at any moment is undone by unmapping it", () => {
  for (const steps of [1, 2, 3]) {
    const { kernel, space } = setUp();
    kernel.isSlow = true;
    const range = memory(SECOND_WINDOW);
    const map = space.map(range);
    for (let step = 0; step < steps; step++) {
      map.next();
      if (step < steps - 1) kernel.catchUp();
    }
    map.return();
    const unmap = space.unmap(range);
    while (!unmap.next().done) kernel.catchUp();
    kernel.catchUp();
    assert.ok(kernel.isEmpty, `after ${steps}`);
  }
});

test("two ranges that need the second window at the same time share it", () => {
  const { kernel, space } = setUp();
  runToEnd(space.map(memory(0x40000n)));
  kernel.isSlow = true;
  const maps = [space.map(memory(SECOND_WINDOW)), space.map(memory(SECOND_WINDOW + 0x10000n))];
  for (const map of maps) assert.ok(!map.next().done);
  while (!maps.map((map) => map.next().done).every((done) => done)) kernel.catchUp();
  assert.equal(kernel.mapped.size, 3);
});
