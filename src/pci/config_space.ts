/** Bytes of the header every function has (types 0 and 1); what an ordinary user may read from Linux. */
export const HEADER_SIZE = 0x40;
/** Bytes of conventional config space; standard capabilities live between the header and here. */
export const CONVENTIONAL_SIZE = 0x100;
/** Bytes of config space with the extended part of PCI Express and PCI-X 2.0. */
export const EXTENDED_SIZE = 0x1000;

/** A register outside the config space that was read. */
export class ConfigSpaceError extends Error {
  readonly code = "ECONFIG";
  /** @param offset byte offset of the register that is not there */
  constructor(
    readonly offset: number,
    size: number,
    available: number,
  ) {
    super(`config space ends at ${hex(available)}: no ${size} bytes to read at ${hex(offset)}`);
    this.name = "ConfigSpaceError";
  }
}

/** The byte at an offset. @throws ConfigSpaceError outside the config space */
export function read8(config: Uint8Array, offset: number): number {
  check(config, offset, 1);
  return config[offset] as number;
}

/** The little-endian 16-bit value at an offset, 0..0xffff. @throws ConfigSpaceError outside the config space */
export function read16(config: Uint8Array, offset: number): number {
  check(config, offset, 2);
  return (config[offset] as number) | ((config[offset + 1] as number) << 8);
}

/** The little-endian 32-bit value at an offset, unsigned. @throws ConfigSpaceError outside the config space */
export function read32(config: Uint8Array, offset: number): number {
  check(config, offset, 4);
  return (
    ((config[offset] as number) |
      ((config[offset + 1] as number) << 8) |
      ((config[offset + 2] as number) << 16) |
      ((config[offset + 3] as number) << 24)) >>>
    0
  );
}

/** Two 32-bit registers, low half first, as one 64-bit value. @throws ConfigSpaceError outside the config space */
export function read64(config: Uint8Array, offset: number): bigint {
  return (BigInt(read32(config, offset + 4)) << 32n) | BigInt(read32(config, offset));
}

function check(config: Uint8Array, offset: number, size: number): void {
  // The first half holds for whole numbers from 0 on only.
  if (offset >>> 0 !== offset || offset + size > config.length) throw new ConfigSpaceError(offset, size, config.length);
}

/** A config space offset as messages write it: `0x34`, `0x100`. */
export function hex(value: number): string {
  return `0x${value.toString(16).padStart(2, "0")}`;
}
