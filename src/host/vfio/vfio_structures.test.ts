import assert from "node:assert/strict";
import { test } from "node:test";
import type { NativeMemory } from "../../os/index.js";
import {
  encodeRegionInfo,
  VFIO_REGION_INFO_FLAG_MMAP,
  VFIO_REGION_INFO_FLAG_READ,
  VfioError,
} from "../../vfio/index.js";
import { encodeKernelIrqSet } from "./device_irqs.js";
import { decodeDeviceRegion } from "./device_regions.js";
import { decodeHotResetInfo } from "./hot_reset.js";
import { encodeIoasMap } from "./iommufd_space.js";
import { withinLimits } from "./iova_limits.js";
import { memlockOf } from "./memlock_limit.js";
import { encodeDmaBufFeature } from "./region_file.js";
import { decodeInfo } from "./type1_space.js";

function throwsCode(code: string, run: () => unknown): void {
  assert.throws(run, (error: unknown) => error instanceof VfioError && error.code === code);
}

function hex(memory: NativeMemory | Uint8Array): string {
  return Buffer.from("bytes" in memory ? memory.bytes : memory).toString("hex");
}

/** Little-endian 32-bit words. */
function bytesOf(...words: number[]): Uint8Array {
  return new Uint8Array(new Uint32Array(words).buffer);
}

test("hot reset info lists functions by group, and by device where the kernel counts in those", () => {
  // Group 7: 0001:65:00.1; group 8: 0001:66:1f.7.
  const groups = bytesOf(28, 0, 2, 7, 0x01650001, 8, 0xff660001);
  assert.deepEqual(decodeHotResetInfo(groups), [
    { address: "0001:65:00.1", group: 7, owned: undefined },
    { address: "0001:66:1f.7", group: 8, owned: undefined },
  ]);
  const devices = bytesOf(36, 1, 3, 0xffffffff, 0, 0, 0x01000000, 5, 0x02000000);
  const owned = decodeHotResetInfo(devices).map((each) => [each.group, each.owned]);
  assert.deepEqual(owned, [
    [undefined, false],
    [undefined, true],
    [undefined, true],
  ]);
  throwsCode("EINVAL", () => decodeHotResetInfo(bytesOf(20, 0, 2, 7, 0)));
});

test("an irq set carries its descriptors, and -1 for each where there are none", () => {
  const set = { index: 2, start: 1, count: 2, action: "trigger", data: { kind: "eventfd" } } as const;
  assert.equal(hex(encodeKernelIrqSet(set, [5, 6])), hex(bytesOf(28, 0x24, 2, 1, 2, 5, 6)));
  assert.equal(hex(encodeKernelIrqSet(set, [])), hex(bytesOf(28, 0x24, 2, 1, 2, 0xffffffff, 0xffffffff)));
  const off = { index: 1, start: 0, count: 0, action: "trigger", data: { kind: "none" } } as const;
  assert.equal(hex(encodeKernelIrqSet(off, [])), hex(bytesOf(20, 0x21, 1, 0, 0)));
  throwsCode("EINVAL", () => encodeKernelIrqSet(set, [5]));
  throwsCode("EINVAL", () => encodeKernelIrqSet({ ...set, count: 5000 }, []));
});

const INFO = { argsz: 0, index: 0, size: 0x10000n, offset: 1n << 40n, capabilities: [] };
const MAPPED = { ...INFO, flags: VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_MMAP };

test("a region tells what may be mapped: all, its sparse pieces, or nothing", () => {
  const region = decodeDeviceRegion(encodeRegionInfo(MAPPED), 0);
  assert.deepEqual(region, {
    size: 0x10000,
    readable: true,
    writable: false,
    fileOffset: 2 ** 40,
    mappable: [{ offset: 0, size: 0x10000 }],
  });
  assert.deepEqual(decodeDeviceRegion(encodeRegionInfo({ ...MAPPED, flags: 1 }), 0)?.mappable, []);
  const areas = [{ offset: 0x1000n, size: 0x2000n }];
  const type = { kind: "type", type: 0x800010de, subtype: 1 } as const;
  const sparse = { ...MAPPED, capabilities: [{ kind: "sparse-mmap" as const, areas }, type] };
  const pieces = decodeDeviceRegion(encodeRegionInfo(sparse), 9);
  assert.deepEqual(pieces?.mappable, [{ offset: 0x1000, size: 0x2000 }]);
  assert.deepEqual(pieces?.capabilities, [type]);
});

test("a region that is not there is none, and nonsense is refused", () => {
  assert.equal(decodeDeviceRegion(encodeRegionInfo({ ...MAPPED, size: 0n }), 0), undefined);
  throwsCode("EIO", () => decodeDeviceRegion(encodeRegionInfo({ ...MAPPED, size: 1n << 60n }), 0));
  const areas = [{ offset: 0xf000n, size: 0x2000n }];
  const beyond = { ...MAPPED, capabilities: [{ kind: "sparse-mmap" as const, areas }] };
  throwsCode("EIO", () => decodeDeviceRegion(encodeRegionInfo(beyond), 0));
});

/** As the kernel of an x86 host gives it: pages of 4 KiB, 2 MiB and 1 GiB; all but the MSI window. */
const TYPE1_INFO = new Uint8Array([
  ...bytesOf(24 + 48, 3, 0x40201000, 0, 24, 0),
  ...bytesOf(0x00010001, 0, 2, 0, 0, 0, 0xfedfffff, 0, 0xfef00000, 0, 0xffffffff, 0x7f),
]);

test("the IOMMU's limits are read from its info, whatever other capabilities there are", () => {
  assert.deepEqual(decodeInfo(TYPE1_INFO), {
    pageSizes: 0x40201000n,
    ranges: [
      { first: 0n, last: 0xfedfffffn },
      { first: 0xfef00000n, last: 0x7fffffffffn },
    ],
  });
  assert.deepEqual(decodeInfo(bytesOf(24, 0, 0, 0, 0, 0)), { pageSizes: 0n, ranges: undefined });
  throwsCode("EINVAL", () => decodeInfo(bytesOf(24, 2, 0, 0, 24, 0)));
  throwsCode("EINVAL", () => decodeInfo(TYPE1_INFO.subarray(0, 60)));
});

test("addresses outside the IOMMU's ranges are refused with the ranges in words", () => {
  const limits = decodeInfo(TYPE1_INFO);
  withinLimits({ iova: 0xfef00000n, size: 0x1000n }, limits);
  for (const [iova, size] of [
    [0xfedff000n, 0x2000n],
    [0xfee00000n, 0x1000n],
    [1n << 40n, 0x1000n],
    [0x800n, 0x1000n],
    [0n, 0n],
  ] as const) {
    throwsCode("EINVAL", () => withinLimits({ iova, size }, limits));
  }
  assert.throws(() => withinLimits({ iova: 0xfee00000n, size: 0x1000n }, limits), /0x0 to 0xfedfffff, 0xfef00000 to/);
  withinLimits({ iova: 0x123n, size: 1n }, { ranges: undefined, pageSizes: 0n });
});

test("RLIMIT_MEMLOCK is read from the process's limits", () => {
  const line = "Max locked memory         8388608              unlimited            bytes     ";
  assert.equal(memlockOf(`Limit  Soft Limit\n${line}\n`), 8388608n);
  assert.equal(memlockOf(line.replace("8388608 ", "unlimited")), undefined);
});

test("a map of an iommufd and the request for a dma-buf are as linux/iommufd.h and linux/vfio.h lay them out", () => {
  const memory = { iova: 0x100000n, size: 0x4000n, address: 0x7f0000001000, readable: true, writable: false };
  assert.equal(hex(encodeIoasMap(9, memory)), hex(bytesOf(40, 5, 9, 0, 0x1000, 0x7f00, 0x4000, 0, 0x100000, 0)));
  assert.equal(hex(encodeDmaBufFeature(2, 2 ** 33)), hex(bytesOf(40, 0x1000b, 2, 0o2000002, 0, 1, 0, 0, 0, 2)));
});
