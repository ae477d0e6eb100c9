import { read8, read16, read32 } from "./config_space.js";
import type { BridgeBuses } from "./function.js";

/** Header layouts (PCI local bus specification 6.1; PCI-to-PCI bridge 3.2; PC Card 4.5.1). */
export const ENDPOINT = 0;
export const PCI_BRIDGE = 1;
export const CARDBUS_BRIDGE = 2;

/** What sits where in a header of one type, as byte offsets; absent where the layout has no such register. */
interface Layout {
  bars: number;
  rom?: number;
  subsystem?: number;
  buses?: number;
  capabilityPointer: number;
  /** End of the header: no capability may begin before it. */
  end: number;
}

const LAYOUTS: readonly Layout[] = [
  { bars: 6, rom: 0x30, subsystem: 0x2c, capabilityPointer: 0x34, end: 0x40 },
  { bars: 2, rom: 0x38, buses: 0x18, capabilityPointer: 0x34, end: 0x40 },
  { bars: 1, subsystem: 0x40, buses: 0x18, capabilityPointer: 0x14, end: 0x48 },
];

/** The layout of a header type; undefined for the types 3..127 nobody has defined. */
export function layoutOf(headerType: number): Layout | undefined {
  return LAYOUTS[headerType];
}

/** The registers that every header has, and those of its type. */
export interface Header {
  /** All ones for a virtual function, whose ids are its physical function's business. */
  vendorId: number;
  deviceId: number;
  command: number;
  status: number;
  /** Base class, subclass and programming interface, 24 bits. */
  classCode: number;
  revision: number;
  /** 0..127, without the multifunction bit. */
  headerType: number;
  multifunction: boolean;
  /** 1..4 for INTA..INTD; 0 for none. */
  interruptPin: number;
  interruptLine: number;
  subsystem?: { vendorId: number; id: number };
  buses?: BridgeBuses;
}

/** @throws ConfigSpaceError when there are fewer than 64 bytes */
export function decodeHeader(config: Uint8Array): Header {
  const type = read8(config, 0x0e);
  const header: Header = {
    vendorId: read16(config, 0x00),
    deviceId: read16(config, 0x02),
    command: read16(config, 0x04),
    status: read16(config, 0x06),
    classCode: read32(config, 0x08) >>> 8,
    revision: read8(config, 0x08),
    headerType: type & 0x7f,
    multifunction: (type & 0x80) !== 0,
    interruptPin: read8(config, 0x3d),
    interruptLine: read8(config, 0x3c),
  };
  const { subsystem, buses } = LAYOUTS[header.headerType] ?? {};
  // A CardBus bridge keeps its subsystem ids behind the first 64 bytes, which may be all that was read.
  if (subsystem !== undefined && subsystem + 4 <= config.length) {
    header.subsystem = { vendorId: read16(config, subsystem), id: read16(config, subsystem + 2) };
  }
  if (buses !== undefined) {
    header.buses = {
      primary: read8(config, buses),
      secondary: read8(config, buses + 1),
      subordinate: read8(config, buses + 2),
    };
  }
  return header;
}
