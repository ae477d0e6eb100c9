import { read16, read32 } from "./config_space.js";

/** Uncorrectable error bits (PCIe base specification 7.8.4.2): what isolation gone wrong shows up as. */
export const ACS_VIOLATION = 0x00200000;
export const UNSUPPORTED_REQUEST = 0x00100000;

/** What root ports and event collectors have in addition: error messages received from below. */
export interface AerRoot {
  command: number;
  status: number;
  /** Requester ids (bus, device and function in 16 bits) of the first correctable and uncorrectable error. */
  correctableSource: number;
  uncorrectableSource: number;
}

/** Contents of the Advanced Error Reporting capability: register values as they are, 32 bits each, unsigned. */
export interface AerContents {
  kind: "aer";
  uncorrectable: { status: number; mask: number; severity: number };
  correctable: { status: number; mask: number };
  /** Bit number of the first uncorrectable error, 0..31. */
  firstError: number;
  ecrcGeneration: { capable: boolean; enabled: boolean };
  ecrcChecking: { capable: boolean; enabled: boolean };
  /** The first four words of the packet that caused the first error. */
  headerLog: [number, number, number, number];
  root?: AerRoot;
}

/**
 * @param root whether the function is a root port or a root complex event collector
 * @throws ConfigSpaceError when the capability runs past the end
 */
export function decodeAer(config: Uint8Array, offset: number, root: boolean): AerContents {
  const control = read32(config, offset + 0x18);
  const contents: AerContents = {
    kind: "aer",
    uncorrectable: {
      status: read32(config, offset + 0x04),
      mask: read32(config, offset + 0x08),
      severity: read32(config, offset + 0x0c),
    },
    correctable: { status: read32(config, offset + 0x10), mask: read32(config, offset + 0x14) },
    firstError: control & 0x1f,
    ecrcGeneration: { capable: (control & 0x20) !== 0, enabled: (control & 0x40) !== 0 },
    ecrcChecking: { capable: (control & 0x80) !== 0, enabled: (control & 0x100) !== 0 },
    headerLog: [
      read32(config, offset + 0x1c),
      read32(config, offset + 0x20),
      read32(config, offset + 0x24),
      read32(config, offset + 0x28),
    ],
  };
  if (root) {
    contents.root = {
      command: read32(config, offset + 0x2c),
      status: read32(config, offset + 0x30),
      correctableSource: read16(config, offset + 0x34),
      uncorrectableSource: read16(config, offset + 0x36),
    };
  }
  return contents;
}
