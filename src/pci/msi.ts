import { read16, read32, read64 } from "./config_space.js";

/** Contents of the MSI capability. Counts of vectors are powers of two, 1..32 (64 and 128 are reserved codes). */
export interface MsiContents {
  kind: "msi";
  enabled: boolean;
  /** Vectors the function can use, and those software gave it. */
  capable: number;
  allocated: number;
  wide: boolean;
  maskable: boolean;
  address: bigint;
  data: number;
  /** One bit per vector; only where vectors can be masked one by one. */
  masked?: number;
  pending?: number;
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeMsi(config: Uint8Array, offset: number): MsiContents {
  const flags = read16(config, offset + 2);
  const wide = (flags & 0x80) !== 0;
  const maskable = (flags & 0x100) !== 0;
  const data = offset + (wide ? 12 : 8);
  const contents: MsiContents = {
    kind: "msi",
    enabled: (flags & 0x1) !== 0,
    capable: 1 << ((flags >> 1) & 0x7),
    allocated: 1 << ((flags >> 4) & 0x7),
    wide,
    maskable,
    address: wide ? read64(config, offset + 4) : BigInt(read32(config, offset + 4)),
    data: read16(config, data),
  };
  if (maskable) {
    contents.masked = read32(config, data + 4);
    contents.pending = read32(config, data + 8);
  }
  return contents;
}

/** Where a table lies: BAR number 0..5 (6 and 7 are reserved) and byte offset in it. */
export interface TableLocation {
  bar: number;
  offset: number;
}

/** Contents of the MSI-X capability. */
export interface MsixContents {
  kind: "msi-x";
  enabled: boolean;
  /** All vectors are masked. */
  masked: boolean;
  /** Vectors in the table, 1..2048. */
  count: number;
  table: TableLocation;
  pendingBits: TableLocation;
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeMsix(config: Uint8Array, offset: number): MsixContents {
  const control = read16(config, offset + 2);
  return {
    kind: "msi-x",
    enabled: (control & 0x8000) !== 0,
    masked: (control & 0x4000) !== 0,
    count: (control & 0x7ff) + 1,
    table: location(read32(config, offset + 4)),
    pendingBits: location(read32(config, offset + 8)),
  };
}

function location(value: number): TableLocation {
  return { bar: value & 0x7, offset: (value & ~0x7) >>> 0 };
}
