import { read8, read16, read32 } from "./config_space.js";

/** Bytes of a standard capability's header: id, pointer to the next one, and 16 bits of its own. */
export const STANDARD_MINIMUM = 4;
/** Bytes of an extended capability's header: id, version and offset of the next one. */
export const EXTENDED_MINIMUM = 4;

/**
 * The least number of bytes a standard capability takes up, from its id and, where it varies, its first registers;
 * optional registers at its end are not counted, nor is the length a vendor-specific one claims, for some chipsets
 * claim more than there is (Intel X58: 255 bytes at 0x50). So a sound list is never called overlapping
 * (lengths: PCI local bus specification 3.0 chapter 6, PCIe base specification chapter 7, linux/pci_regs.h).
 * @param end where the space ends; nothing at or behind it is read
 */
export function standardLength(config: Uint8Array, offset: number, end: number): number {
  const flags = read16(config, offset + 2);
  switch (read8(config, offset)) {
    case 0x01: // Power Management
    case 0x03: // Vital Product Data
    case 0x0d: // Subsystem
      return 8;
    case 0x02: // AGP
    case 0x11: // MSI-X
      return 12;
    case 0x05:
      return msiLength(flags);
    case 0x07: // PCI-X
      return 8;
    case 0x08:
      return hyperTransportLength(flags);
    case 0x10:
      return expressLength(flags);
    case 0x12: // SATA HBA
      return 8;
    case 0x13: // Advanced Features
      return 6;
    case 0x14:
      return enhancedAllocationLength(config, offset, end);
    default:
      return STANDARD_MINIMUM;
  }
}

function msiLength(flags: number): number {
  const wide = (flags & 0x80) !== 0;
  const maskable = (flags & 0x100) !== 0;
  if (maskable) return wide ? 24 : 20;
  return wide ? 14 : 10;
}

function hyperTransportLength(flags: number): number {
  switch (flags & 0xe000) {
    case 0x0000:
      return 28;
    case 0x2000:
      return 24;
  }
  const msiMapping = (flags & 0xf800) === 0xa800;
  const fixed = (flags & 0x2) !== 0;
  return msiMapping && !fixed ? 12 : STANDARD_MINIMUM;
}

function expressLength(flags: number): number {
  const type = (flags >> 4) & 0xf;
  const version = flags & 0xf;
  const integrated = type === 9;
  if (version >= 2) return integrated ? 0x24 : 0x2c;
  if (type === 4 || type === 10) return 0x24;
  if (integrated) return 0x0c;
  const slot = (flags & 0x100) !== 0 && (type === 6 || type === 8);
  return slot ? 0x1c : 0x14;
}

/** The fixed part only; entries follow whose sizes depend on each other. */
function enhancedAllocationLength(config: Uint8Array, offset: number, end: number): number {
  const entries = read8(config, offset + 2) & 0x3f;
  return entries === 0 || offset + 8 > end ? STANDARD_MINIMUM : 8;
}

/** The same for an extended capability. */
export function extendedLength(config: Uint8Array, offset: number, end: number): number {
  const fixed = EXTENDED_LENGTHS.get(read16(config, offset));
  if (fixed !== undefined) return fixed;
  const second = offset + 8 <= end ? read32(config, offset + 4) : 0;
  switch (read16(config, offset)) {
    case 0x0b: // Vendor-Specific: its length covers both headers.
      return Math.max(second >>> 20, 8);
    case 0x23: // Designated Vendor-Specific, likewise, and its id follows.
      return Math.max(second >>> 20, 10);
    case 0x15: // Resizable BAR, physical and virtual: the number of BARs is in the first control register.
    case 0x24:
      return 4 + 8 * (offset + 12 <= end ? Math.max((read32(config, offset + 8) >>> 5) & 0x7, 1) : 1);
    default:
      return EXTENDED_MINIMUM;
  }
}

const EXTENDED_LENGTHS: ReadonlyMap<number, number> = new Map([
  [0x01, 0x2c], // Advanced Error Reporting
  [0x02, 0x1c], // Virtual Channel, with its first resource
  [0x03, 0x0c], // Device Serial Number
  [0x04, 0x10], // Power Budgeting
  [0x05, 0x10], // Root Complex Link Declaration
  [0x06, 0x0c], // Root Complex Internal Link Control
  [0x07, 0x08], // Root Complex Event Collector Endpoint Association
  [0x08, 0x1c], // Multi-Function Virtual Channel
  [0x09, 0x1c], // Virtual Channel
  [0x0a, 0x14], // Root Complex Register Block
  [0x0d, 0x08], // Access Control Services
  [0x0e, 0x08], // Alternative Routing-ID Interpretation
  [0x0f, 0x08], // Address Translation Service
  [0x10, 0x40], // Single Root I/O Virtualization
  [0x12, 0x28], // Multicast
  [0x13, 0x10], // Page Request Interface
  [0x16, 0x10], // Dynamic Power Allocation
  [0x17, 0x0c], // Transaction Processing Hints
  [0x18, 0x08], // Latency Tolerance Reporting
  [0x19, 0x0c], // Secondary PCI Express
  [0x1b, 0x08], // Process Address Space ID
  [0x1d, 0x0c], // Downstream Port Containment
  [0x1e, 0x10], // L1 PM Substates
  [0x1f, 0x0c], // Precision Time Measurement
  [0x25, 0x0c], // Data Link Feature
  [0x26, 0x20], // Physical Layer 16.0 GT/s
  [0x27, 0x08], // Lane Margining at the Receiver
  [0x29, 0x10], // Native PCIe Enclosure Management
  [0x2e, 0x18], // Data Object Exchange
]);
