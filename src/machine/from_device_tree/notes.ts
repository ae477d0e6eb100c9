import { DeviceTreeError } from "../../devicetree/error.js";
import type { PciAddress } from "../../pci/address.js";
import type { Unknown } from "../machine.js";

/** A tree can be damaged in as many places as it has nodes; nobody reads on after this many. */
const MAX_NOTES = 1000;

/** Collects what a device tree does not say, or says in a way nobody can rely on. */
export class Notes {
  readonly unknown: Unknown[] = [];

  add(what: string, functions: PciAddress[] = [], action?: string): void {
    if (this.unknown.length > MAX_NOTES) return;
    if (this.unknown.length === MAX_NOTES) {
      this.unknown.push({
        what: "more that is wrong with this device tree; only the first 1000 are listed",
        functions: [],
      });
      return;
    }
    this.unknown.push({ what, functions, ...(action !== undefined && { action }) });
  }

  /** A property's value; a malformed one is noted with the path of its node and counts as missing. */
  read<T>(path: string, value: () => T | undefined): T | undefined {
    try {
      return value();
    } catch (error) {
      if (!(error instanceof DeviceTreeError)) throw error;
      this.add(`${path}: ${error.message}`);
      return undefined;
    }
  }
}
