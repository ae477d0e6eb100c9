import type { Part } from "../machine.js";
import type { CapabilityPlace } from "./capability_place.js";

/** PCI identity of a GPU. */
export interface GpuModel {
  deviceId: number;
  /** Under NVIDIA's own vendor id. */
  subsystemId: number;
  name: string;
  /** Bytes of BAR1. */
  bar1Size: bigint;
  functionLevelReset: boolean;
  capabilities: readonly CapabilityPlace[];
}

export const NVIDIA = 0x10de;
export const GPU_BAR0_SIZE = 0x1000000n;
export const GPU_BAR3_SIZE = 0x2000000n;

const GIB = 1n << 30n;

/** As `lspci` lists a P100 on an S822LC. */
const GP100_CAPABILITIES: readonly CapabilityPlace[] = [
  [0x60, 0x01],
  [0x68, 0x05],
  [0x78, 0x10],
  [0x100, "extended", 0x02],
  [0x250, "extended", 0x18],
  [0x258, "extended", 0x1e],
  [0x128, "extended", 0x04],
  [0x420, "extended", 0x01],
  [0x600, "extended", 0x0b],
  [0x900, "extended", 0x19],
];

const GA100_CAPABILITIES: readonly CapabilityPlace[] = [
  [0x60, 0x01],
  [0x68, 0x00],
  [0x78, 0x10],
  [0xc8, 0x11],
  [0x100, "extended", 0x02],
  [0x250, "extended", 0x18],
  [0x258, "extended", 0x1e],
  [0x128, "extended", 0x04],
  [0x420, "extended", 0x01],
  [0x600, "extended", 0x0b],
  [0x900, "extended", 0x19],
];

/** One GPU for each chip generation, as the boards here carry it. */
export const GPU_MODELS: Readonly<Record<Exclude<Part, "unknown">, GpuModel>> = {
  GP100: {
    deviceId: 0x15f9,
    subsystemId: 0x116b,
    name: "NVIDIA Corporation GP100GL [Tesla P100 SXM2 16GB]",
    bar1Size: 16n * GIB,
    functionLevelReset: false,
    capabilities: GP100_CAPABILITIES,
  },
  GV100: {
    deviceId: 0x1db1,
    subsystemId: 0x1212,
    name: "NVIDIA Corporation GV100GL [Tesla V100 SXM2 16GB]",
    bar1Size: 16n * GIB,
    functionLevelReset: false,
    // As on an AC922: the P100's and NVIDIA's own designated vendor-specific one.
    capabilities: [...GP100_CAPABILITIES, [0xac0, "extended", 0x23]],
  },
  GA100: {
    deviceId: 0x20b0,
    subsystemId: 0x134f,
    name: "NVIDIA Corporation GA100 [A100 SXM4 40GB]",
    bar1Size: 64n * GIB,
    functionLevelReset: true,
    capabilities: GA100_CAPABILITIES,
  },
};
