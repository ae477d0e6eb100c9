import type { VfioDevice } from "../../../src/vfio/index.js";
import { Finding } from "./target.js";

const SIZES = [4096, undefined, 16, 2 ** 37] as const;

/** Regions of which one is not there, one maps and one is larger than 32 bits can say; fails for what is outside. */
export const device: VfioDevice = {
  regions: SIZES.map((size, index) => {
    const capabilities = [{ kind: "type" as const, type: 0x80000000, subtype: 1 }];
    const mapping = { fd: 0, offset: 0, areas: [{ offset: 4096, size: 4096 }] };
    const own = { readable: true, writable: index !== 2, capabilities };
    return size === undefined ? undefined : { size, ...own, ...(index === 3 && { mapping, clips: true }) };
  }),
  irqs: [{ flags: 7, count: 1 }, undefined, { flags: 1, count: 2048 }],
  read: checkInside,
  write: checkInside,
};

function checkInside(index: number, offset: number, data: Uint8Array): void {
  const size = SIZES[index] ?? 0;
  const inside = Number.isSafeInteger(offset) && offset >= 0 && data.length > 0 && offset + data.length <= size;
  if (!inside) throw new Finding(`an access of ${data.length} bytes at ${offset} in region ${index} of ${size}`);
}
