/** The two AC922 boards: Redbud (4 GPUs, air or water cooled) and Sequoia (6 GPUs). */
export type WitherspoonBoard = "redbud" | "sequoia";

/** One end of a GPU's link within a socket: `g1` is the socket's second GPU, `n3` its fourth NPU bridge function. */
export type SocketEnd = `g${number}` | `n${number}`;

/**
 * Wiring of one socket: a row per GPU in slot order, entry i is the far end of GPU link i (skiboot
 * platforms/astbmc/witherspoon.c, `ibm,nvlink-peers`). Which of several links of a pair meet is not written anywhere;
 * they are paired in ascending order and marked assumed.
 */
export const WITHERSPOON_WIRING: Readonly<Record<WitherspoonBoard, readonly (readonly SocketEnd[])[]>> = {
  redbud: [
    ["g1", "n0", "g1", "n1", "g1", "n2"],
    ["g0", "n3", "g0", "n4", "g0", "n5"],
  ],
  sequoia: [
    ["g1", "n0", "g2", "g2", "g1", "n1"],
    ["g0", "n2", "g2", "g2", "g0", "n3"],
    ["g1", "g0", "g1", "n4", "g0", "n5"],
  ],
};

/** Slot labels by socket, in slot order. */
export const WITHERSPOON_LABELS: Readonly<Record<WitherspoonBoard, readonly (readonly string[])[]>> = {
  redbud: [
    ["GPU0", "GPU1"],
    ["GPU3", "GPU4"],
  ],
  sequoia: [
    ["GPU0", "GPU1", "GPU2"],
    ["GPU3", "GPU4", "GPU5"],
  ],
};

/** GPU addresses seen on AC922 by socket; a Redbud has the first two of each. */
export const WITHERSPOON_GPU_ADDRESSES: readonly (readonly string[])[] = [
  ["0004:04:00.0", "0004:05:00.0", "0004:06:00.0"],
  ["0035:03:00.0", "0035:04:00.0", "0035:05:00.0"],
];

/** PCI device.function of a socket's NPU bridges n0..n5: the device is the GPU's group, the function the link in it. */
export const WITHERSPOON_BRIDGE_FUNCTIONS: Readonly<Record<WitherspoonBoard, readonly string[]>> = {
  redbud: ["00.0", "00.1", "00.2", "01.0", "01.1", "01.2"],
  sequoia: ["00.0", "00.1", "01.0", "01.1", "02.0", "02.1"],
};

/** PCI domains of the two sockets' NPU host bridges. */
export const WITHERSPOON_NPU_DOMAINS: readonly string[] = ["0006", "0007"];

/** Bytes of the window at which the CPU sees one GPU's RAM: 128 GiB. */
export const GPU_RAM_WINDOW = 0x2000000000n;

/** Window base of the socket's GPU `slot` (0..2) on chip `chipId`: down from 4 TiB on chip 0, chips 4 TiB apart. */
export function gpuRamBase(chipId: number, slot: number): bigint {
  return (BigInt(chipId) << 42n) + (1n << 42n) - BigInt(slot + 1) * GPU_RAM_WINDOW;
}

/**
 * Compresses a system address as the GPU's 47-bit DMA wants it: bit 42 to 42, 45..46 to 43..44, 49..50 to 45..46,
 * bits 0..41 stay (Linux arch/powerpc/platforms/powernv/npu-dma.c; skiboot hw/npu2.c).
 */
export function compressTgt(address: bigint): bigint {
  const low = address & ((1n << 43n) - 1n);
  return low | (((address >> 45n) & 3n) << 43n) | (((address >> 49n) & 3n) << 45n);
}
