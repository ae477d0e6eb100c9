import type { ConfigRegister } from "./config_registers.js";

/** Ids of the extended capability list (PCIe base specification, PCI Code and ID Assignment specification). */
const ADVANCED_ERRORS = 0x01;
const VIRTUAL_CHANNEL = 0x02;
const POWER_BUDGETING = 0x04;
const VENDOR_SPECIFIC = 0x0b;
const LATENCY_TOLERANCE = 0x18;
const SECONDARY_EXPRESS = 0x19;
const L1_SUBSTATES = 0x1e;
const DESIGNATED_VENDOR_SPECIFIC = 0x23;

/** An extended capability but for its id and the offset of the next one. */
export interface ExtendedBody {
  version: number;
  /** Bytes, header included. */
  length: number;
  registers: readonly ConfigRegister[];
}

/** Errors an endpoint reports: data link protocol to unsupported request, internal; see the specification's 7.8.4.2. */
const UNCORRECTABLE = 0x005ff030;
/** Receiver, bad TLP and DLLP, replay rollover and timeout, advisory non-fatal. */
const CORRECTABLE = 0x000031c1;
/** Severities and masks as the specification has them after a reset. */
const SEVERITY_RESET = 0x00462030;
const ADVISORY_MASKED = 1 << 13;

const LANES = 16;
/** What an equalization left for a lane: preset 7 asked for by both ends. */
const LANE_EQUALIZATION = 0x0707;

const BODIES: ReadonlyMap<number, ExtendedBody> = new Map([
  [
    ADVANCED_ERRORS,
    {
      version: 2,
      length: 0x2c,
      registers: [
        { at: 0x04, size: 4, clearable: UNCORRECTABLE },
        { at: 0x08, size: 4, writable: UNCORRECTABLE },
        { at: 0x0c, size: 4, value: SEVERITY_RESET, writable: UNCORRECTABLE },
        { at: 0x10, size: 4, clearable: CORRECTABLE },
        { at: 0x14, size: 4, value: ADVISORY_MASKED, writable: CORRECTABLE },
      ],
    },
  ],
  [
    VIRTUAL_CHANNEL,
    {
      version: 1,
      length: 0x1c,
      // VC0 alone, enabled and carrying all traffic classes; class 0 cannot be taken from it.
      registers: [{ at: 0x14, size: 4, value: 0x800000ff, writable: 0xfe }],
    },
  ],
  [
    POWER_BUDGETING,
    {
      version: 1,
      length: 0x10,
      // The module's power is in the system's budget, so there is no data to report whatever is selected.
      registers: [
        { at: 0x04, size: 1, writable: 0xff },
        { at: 0x0c, size: 1, value: 1 },
      ],
    },
  ],
  [
    VENDOR_SPECIFIC,
    {
      version: 1,
      length: 0x24,
      registers: [{ at: 0x04, size: 4, value: 0x0001 | (1 << 16) | (0x24 << 20) }],
    },
  ],
  [
    LATENCY_TOLERANCE,
    {
      version: 1,
      length: 0x08,
      registers: [
        { at: 0x04, size: 2, writable: 0x1fff },
        { at: 0x06, size: 2, writable: 0x1fff },
      ],
    },
  ],
  [
    SECONDARY_EXPRESS,
    {
      version: 1,
      length: 0x0c + 2 * LANES,
      registers: [
        { at: 0x08, size: 4, clearable: 2 ** LANES - 1 },
        ...Array.from({ length: LANES }, (_, lane): ConfigRegister => {
          return { at: 0x0c + 2 * lane, size: 2, value: LANE_EQUALIZATION };
        }),
      ],
    },
  ],
  [
    L1_SUBSTATES,
    {
      version: 1,
      length: 0x10,
      registers: [
        // L1.1 and L1.2 by PCI power management only; common mode restored in 255 us, power on in 10 us.
        { at: 0x04, size: 4, value: 0x13 | (255 << 8) | (5 << 19) },
        { at: 0x08, size: 4, writable: 0xe3ff0003 },
        { at: 0x0c, size: 4, value: 5 << 3, writable: 0xfb },
      ],
    },
  ],
  [
    DESIGNATED_VENDOR_SPECIFIC,
    {
      version: 1,
      length: 0x0c,
      // NVIDIA's own, its content not documented.
      registers: [
        { at: 0x04, size: 4, value: 0x10de | (1 << 16) | (0x0c << 20) },
        { at: 0x08, size: 2, value: 0x0001 },
      ],
    },
  ],
]);

const HEADER: ExtendedBody = { version: 1, length: 4, registers: [] };

/**
 * What follows the header of an extended capability; the header alone for one that is not known here or has no room.
 * @param room bytes from its offset to the next capability or the end of the space
 */
export function extendedCapability(id: number, room: number): ExtendedBody {
  const body = BODIES.get(id);
  return body === undefined || body.length > room ? HEADER : body;
}
