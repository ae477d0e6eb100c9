import { decodeBars } from "./bar.js";
import { read8, read16, read32 } from "./config_space.js";
import type { Bar } from "./function.js";

/** Contents of the SR-IOV capability of a physical function. */
export interface SriovContents {
  kind: "sr-iov";
  enabled: boolean;
  /** Virtual functions answer in memory space. */
  memoryEnabled: boolean;
  ariHierarchy: boolean;
  initialVfs: number;
  totalVfs: number;
  numVfs: number;
  dependencyLink: number;
  /** Routing id of the first virtual function relative to this one, and from each to the next. */
  firstVfOffset: number;
  vfStride: number;
  vfDeviceId: number;
  /** Bit n stands for pages of 2^(n+12) bytes. */
  supportedPageSizes: number;
  systemPageSize: number;
  /** The first virtual function's BARs; the others' follow them in memory. */
  bars: Bar[];
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeSriov(config: Uint8Array, offset: number): SriovContents {
  const control = read16(config, offset + 0x08);
  const memoryEnabled = (control & 0x8) !== 0;
  return {
    kind: "sr-iov",
    enabled: (control & 0x1) !== 0,
    memoryEnabled,
    ariHierarchy: (control & 0x10) !== 0,
    initialVfs: read16(config, offset + 0x0c),
    totalVfs: read16(config, offset + 0x0e),
    numVfs: read16(config, offset + 0x10),
    dependencyLink: read8(config, offset + 0x12),
    firstVfOffset: read16(config, offset + 0x14),
    vfStride: read16(config, offset + 0x16),
    vfDeviceId: read16(config, offset + 0x1a),
    supportedPageSizes: read32(config, offset + 0x1c),
    systemPageSize: read32(config, offset + 0x20),
    bars: decodeBars(config, offset + 0x24, 6, { io: false, memory: memoryEnabled }, []),
  };
}
