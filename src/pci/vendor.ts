import { read8, read16, read32 } from "./config_space.js";

/** Contents of the standard Vendor-Specific capability: bytes whose meaning only the vendor knows. */
export interface VendorContents {
  kind: "vendor";
  /** Bytes, header included, as the capability says. */
  length: number;
}

/** Contents of the extended Vendor-Specific capability; id and layout belong to the function's own vendor. */
export interface ExtendedVendorContents {
  kind: "extended-vendor";
  id: number;
  revision: number;
  length: number;
}

/** Contents of the Designated Vendor-Specific capability; id and layout belong to the vendor it names. */
export interface DesignatedVendorContents {
  kind: "designated-vendor";
  vendor: number;
  id: number;
  revision: number;
  length: number;
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeVendor(config: Uint8Array, offset: number): VendorContents {
  return { kind: "vendor", length: read8(config, offset + 2) };
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeExtendedVendor(config: Uint8Array, offset: number): ExtendedVendorContents {
  const header = read32(config, offset + 4);
  return { kind: "extended-vendor", id: header & 0xffff, revision: (header >>> 16) & 0xf, length: header >>> 20 };
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeDesignatedVendor(config: Uint8Array, offset: number): DesignatedVendorContents {
  const header = read32(config, offset + 4);
  return {
    kind: "designated-vendor",
    vendor: header & 0xffff,
    id: read16(config, offset + 8),
    revision: (header >>> 16) & 0xf,
    length: header >>> 20,
  };
}
