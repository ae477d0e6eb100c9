import { type AcsContents, decodeAcsContents } from "./acs.js";
import { type AerContents, decodeAer } from "./aer.js";
import { read8, read16 } from "./config_space.js";
import { decodeExpressContents, type ExpressContents } from "./express.js";
import type { Capability, ExpressType } from "./function.js";
import { decodeMsi, decodeMsix, type MsiContents, type MsixContents } from "./msi.js";
import { decodePowerManagement, type PowerManagementContents } from "./power_management.js";
import { decodeResizableBar, type ResizableBarContents } from "./resizable_bar.js";
import { decodeSecondaryExpress, type SecondaryExpressContents } from "./secondary_express.js";
import { decodeSriov, type SriovContents } from "./sriov.js";
import {
  type DesignatedVendorContents,
  decodeDesignatedVendor,
  decodeExtendedVendor,
  decodeVendor,
  type ExtendedVendorContents,
  type VendorContents,
} from "./vendor.js";

/** What a capability says, by `kind`. */
export type CapabilityContents =
  | PowerManagementContents
  | MsiContents
  | MsixContents
  | VendorContents
  | ExpressContents
  | AerContents
  | ExtendedVendorContents
  | AcsContents
  | SriovContents
  | ResizableBarContents
  | SecondaryExpressContents
  | DesignatedVendorContents;

/**
 * Decodes a capability found by `decodeFunction`; undefined for one that linkfence has no use for and does not decode,
 * and when this config space has another one there.
 * @param expressType the function's; root ports and event collectors have more to say in Advanced Error Reporting
 * @throws ConfigSpaceError when the capability is not all inside this config space
 */
export function decodeCapability(
  config: Uint8Array,
  capability: Capability,
  expressType?: ExpressType,
): CapabilityContents | undefined {
  const { offset, id, extended } = capability;
  const found = extended ? read16(config, offset) : read8(config, offset);
  if (found !== id) return undefined;
  return extended ? decodeExtended(config, offset, id, expressType) : decodeStandard(config, offset, id);
}

function decodeStandard(config: Uint8Array, offset: number, id: number): CapabilityContents | undefined {
  switch (id) {
    case 0x01:
      return decodePowerManagement(config, offset);
    case 0x05:
      return decodeMsi(config, offset);
    case 0x09:
      return decodeVendor(config, offset);
    case 0x10:
      return decodeExpressContents(config, offset);
    case 0x11:
      return decodeMsix(config, offset);
    default:
      return undefined;
  }
}

function decodeExtended(
  config: Uint8Array,
  offset: number,
  id: number,
  type: ExpressType | undefined,
): CapabilityContents | undefined {
  switch (id) {
    case 0x01:
      return decodeAer(config, offset, type === "root-port" || type === "root-complex-event-collector");
    case 0x0b:
      return decodeExtendedVendor(config, offset);
    case 0x0d:
      return decodeAcsContents(config, offset);
    case 0x10:
      return decodeSriov(config, offset);
    case 0x15:
      return decodeResizableBar(config, offset, false);
    case 0x19:
      return decodeSecondaryExpress(config, offset);
    case 0x23:
      return decodeDesignatedVendor(config, offset);
    case 0x24:
      return decodeResizableBar(config, offset, true);
    default:
      return undefined;
  }
}
