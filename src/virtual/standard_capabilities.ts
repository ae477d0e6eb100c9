import type { ExpressType, PciFunction } from "../pci/function.js";
import type { ConfigRegister } from "./config_registers.js";

/** Ids of the standard capability list (PCI Code and ID Assignment specification). */
export const POWER_MANAGEMENT = 0x01;
export const MSI = 0x05;
export const VENDOR_SPECIFIC = 0x09;
export const EXPRESS = 0x10;
const MSI_X = 0x11;

/** Bits of Device Capabilities and Device Control (PCIe base specification 7.5.3.3 and 7.5.3.4). */
export const FLR_CAPABLE = 1 << 28;
export const INITIATE_FLR = 1 << 15;

/** Bytes of an Express capability of version 1 without and of version 2 with the second set of registers. */
const EXPRESS_V1_LENGTH = 0x14;
const EXPRESS_V2_LENGTH = 0x3c;

/** Lanes and speed (code 3: 8 GT/s) of the PCIe link of an SXM2 module: what it can do, and what it trained to. */
const LANES_16 = 16 << 4;
const SPEED_8_GT = 3;

/** Device/Port Type codes (PCIe base specification 7.5.3.2). */
const TYPE_CODES: Partial<Record<ExpressType, number>> = {
  endpoint: 0x0,
  "legacy-endpoint": 0x1,
  "root-complex-endpoint": 0x9,
};

/**
 * Version 3, no D1 or D2, no PME. No_Soft_Reset says that D3hot to D0 keeps all state; without it Linux would offer that
 * transition as a reset, which these GPUs do not have.
 */
const POWER_MANAGEMENT_REGISTERS: readonly ConfigRegister[] = [
  { at: 0x02, size: 2, value: 0x0003 },
  { at: 0x04, size: 2, value: 1 << 3, writable: 0x3 },
];

/** One vector, 64-bit address, not maskable. */
const MSI_REGISTERS: readonly ConfigRegister[] = [
  { at: 0x02, size: 2, value: 1 << 7, writable: 1 },
  { at: 0x04, size: 4, writable: 0xfffffffc },
  { at: 0x08, size: 4, writable: 0xffffffff },
  { at: 0x0c, size: 2, writable: 0xffff },
];

/** An A100's: six vectors, table and pending bits in BAR0 (lspci of an A100 SXM4). */
const MSI_X_REGISTERS: readonly ConfigRegister[] = [
  { at: 0x02, size: 2, value: 6 - 1, writable: 0xc000 },
  { at: 0x04, size: 4, value: 0x00b90000 },
  { at: 0x08, size: 4, value: 0x00ba0000 },
];

/**
 * What follows the id and the pointer of a standard capability of a function, which has `room` bytes from its offset to
 * the next capability or the end of the space; undefined for one that is not known or has too little room.
 */
export type StandardBodies = (id: number, fn: PciFunction, room: number) => readonly ConfigRegister[] | undefined;

/** {@link StandardBodies} of a GPU. */
export function standardCapability(id: number, fn: PciFunction, room: number): readonly ConfigRegister[] | undefined {
  const [length, registers] = body(id, fn, room);
  return length > 0 && length <= room ? registers : undefined;
}

function body(id: number, fn: PciFunction, room: number): [length: number, registers: readonly ConfigRegister[]] {
  switch (id) {
    case POWER_MANAGEMENT:
      return [0x08, POWER_MANAGEMENT_REGISTERS];
    case MSI:
      return [0x0e, MSI_REGISTERS];
    case MSI_X:
      return [0x0c, MSI_X_REGISTERS];
    case VENDOR_SPECIFIC:
      return [0x04, [{ at: 0x02, size: 1, value: 0x04 }]];
    case EXPRESS:
      return room < EXPRESS_V2_LENGTH ? [EXPRESS_V1_LENGTH, expressV1(fn, 1)] : [EXPRESS_V2_LENGTH, expressV2(fn)];
    default:
      return [0, []];
  }
}

function expressV1(fn: PciFunction, version: 1 | 2): ConfigRegister[] {
  const type = TYPE_CODES[fn.express?.type ?? "endpoint"] ?? 0;
  // Payload 256 bytes, extended tags, L1 acceptable below 64 us, role-based error reporting.
  const device = 0x1 | (1 << 5) | (0x7 << 6) | (0x6 << 9) | (1 << 15);
  return [
    { at: 0x02, size: 2, value: version | (type << 4) },
    { at: 0x04, size: 4, value: device | (fn.express?.functionLevelReset === true ? FLR_CAPABLE : 0) },
    // Relaxed ordering, no snoop, requests of up to 512 bytes; phantom functions and auxiliary power are not there.
    { at: 0x08, size: 2, value: 0x2810, writable: 0x79ff },
    { at: 0x0a, size: 2, clearable: 0x000f },
    // No active state power management, clock power management, ASPM optionality compliance.
    { at: 0x0c, size: 4, value: SPEED_8_GT | LANES_16 | (1 << 18) | (1 << 22) },
    { at: 0x10, size: 2, writable: 0x03cb },
    // Slot clock.
    { at: 0x12, size: 2, value: SPEED_8_GT | LANES_16 | (1 << 12) },
  ];
}

function expressV2(fn: PciFunction): ConfigRegister[] {
  return [
    ...expressV1(fn, 2),
    // Completion timeout ranges A and B, its disable, LTR, OBFF by message.
    { at: 0x24, size: 4, value: 0x3 | (1 << 4) | (1 << 11) | (1 << 18) },
    { at: 0x28, size: 2, writable: 0x641f },
    { at: 0x2c, size: 4, value: 0x0e },
    { at: 0x30, size: 2, value: SPEED_8_GT, writable: 0xffbf },
    // Equalization went through all its phases.
    { at: 0x32, size: 2, value: 0x001e, clearable: 1 << 5 },
  ];
}
