import type { RegionArea } from "../vfio/device.js";

/**
 * Where BAR0 of an NVIDIA GPU shows the function's config space (NV_PCFG in NVIDIA's manuals of GP100 and GV100; QEMU's
 * hw/vfio/pci-quirks.c reroutes it too): whoever writes there moves the BARs under everybody's feet.
 */
export const CONFIG_MIRROR: RegionArea = { offset: 0x88000, size: 0x1000 };

/** The one register in it that is no part of config space: a write asks for the next MSI (nouveau nvkm/subdev/pci/gp100.c). */
const MSI_REARM = { begin: 0x88704, end: 0x88708 };

/** A piece of an access to BAR0, and whether it belongs to config space; `offset` is BAR0's. */
export interface MirroredPiece {
  offset: number;
  data: Uint8Array;
  isConfig: boolean;
}

/** Whether an access of so many bytes of BAR0 reaches the mirror of config space. */
export function reachesMirror(offset: number, length: number): boolean {
  return offset < CONFIG_MIRROR.offset + CONFIG_MIRROR.size && offset + length > CONFIG_MIRROR.offset;
}

/** An access in pieces that lie in the mirror of config space, and pieces that do not, in order. */
export function mirroredPieces(offset: number, data: Uint8Array): MirroredPiece[] {
  const { begin, end } = MSI_REARM;
  const edges = [CONFIG_MIRROR.offset, begin, end, CONFIG_MIRROR.offset + CONFIG_MIRROR.size];
  const past = offset + data.length;
  const pieces: MirroredPiece[] = [];
  for (let at = offset; at < past; ) {
    const next = Math.min(past, edges.find((edge) => edge > at) ?? past);
    const isConfig = reachesMirror(at, 1) && !(at >= begin && at < end);
    pieces.push({ offset: at, data: data.subarray(at - offset, next - offset), isConfig });
    at = next;
  }
  return pieces;
}
