import { fstatSync } from "node:fs";
import type { VfioRegion } from "../vfio/device.js";
import type { GpuMemory } from "./gpu_memory.js";

/** What a region that shows a GPU's memory tells a DMA space of it, at this moment. */
export function deviceMemory({ fd, size }: GpuMemory): NonNullable<VfioRegion["deviceMemory"]> {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return { id: `${dev}:${ino}`, size };
}
