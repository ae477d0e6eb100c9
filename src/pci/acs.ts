import { read16 } from "./config_space.js";
import type { Acs } from "./function.js";

/** Access Control Services bits, alike in the capability and the control register (PCIe base specification 7.7.12). */
export const SOURCE_VALIDATION = 0x01;
export const TRANSLATION_BLOCKING = 0x02;
export const REQUEST_REDIRECT = 0x04;
export const COMPLETION_REDIRECT = 0x08;
export const UPSTREAM_FORWARDING = 0x10;
export const EGRESS_CONTROL = 0x20;
export const DIRECT_TRANSLATED = 0x40;

/** What Linux wants enabled on a path before it calls the path isolated (drivers/iommu/iommu.c `REQ_ACS_FLAGS`). */
export const ISOLATION = SOURCE_VALIDATION | REQUEST_REDIRECT | COMPLETION_REDIRECT | UPSTREAM_FORWARDING;

const ALL = 0x7f;

/** The capability's two registers, cut down to the bits named here. @throws ConfigSpaceError when they are not there */
export function decodeAcs(config: Uint8Array, offset: number): Acs {
  return { supported: read16(config, offset + 4) & ALL, enabled: read16(config, offset + 6) & ALL };
}

/** Contents of the ACS capability. */
export interface AcsContents extends Acs {
  kind: "acs";
  /** Bits in the egress control vector, 0..256; 0 when the port has no egress control. */
  egressVectorBits: number;
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeAcsContents(config: Uint8Array, offset: number): AcsContents {
  const acs = decodeAcs(config, offset);
  // An 8-bit field in which 0 stands for 256.
  const vector = read16(config, offset + 4) >> 8 || 256;
  return { kind: "acs", ...acs, egressVectorBits: acs.supported & EGRESS_CONTROL ? vector : 0 };
}
