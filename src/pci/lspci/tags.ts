import { parseAddress } from "../address.js";
import { classByName } from "../class_code.js";
import type { LspciFields } from "./field.js";
import { type LspciHeader, pairOf } from "./header.js";
import { readNamedId } from "./names.js";

/**
 * Reads one record of `lspci -vmm`: a tag and its value per line. What a device line would say is returned, the rest
 * goes to `fields`. The first tag is the slot, with an address that was checked; undefined when there is no class.
 */
export function readTags(tags: readonly [tag: string, value: string][], fields: LspciFields): LspciHeader | undefined {
  const values = new Map(tags.toReversed());
  const [slot, kind, vendor, device] = ["Slot", "Class", "Vendor", "Device"].map((tag) => values.get(tag));
  if (slot === undefined || kind === undefined || vendor === undefined || device === undefined) return undefined;
  const { name: className, id } = readNamedId(kind);
  const classId = id ?? (className === undefined ? undefined : classByName(className));
  const revision = hexByte(values.get("Rev"));
  const progIf = hexByte(values.get("ProgIf"));
  const [subsystemVendor, subsystem] = [values.get("SVendor"), values.get("SDevice")];
  if (subsystemVendor !== undefined && subsystem !== undefined) {
    fields.subsystem = pairOf(readNamedId(subsystemVendor), readNamedId(subsystem));
  }
  takeFields(tags, values, fields);
  return {
    address: parseAddress(slot),
    ...(className !== undefined && { className }),
    ...(classId !== undefined && { classId }),
    device: pairOf(readNamedId(vendor), readNamedId(device)),
    ...(revision !== undefined && { revision }),
    ...(progIf !== undefined && { progIf }),
  };
}

function takeFields(tags: readonly [string, string][], values: Map<string, string>, fields: LspciFields): void {
  const [driver, slot] = [values.get("Driver"), values.get("PhySlot")];
  const [node, group] = [decimal(values.get("NUMANode")), decimal(values.get("IOMMUGroup"))];
  if (driver !== undefined) fields.driver = driver;
  if (slot !== undefined) fields.physicalSlot = slot;
  if (node !== undefined) fields.numaNode = node;
  if (group !== undefined) fields.iommuGroup = group;
  fields.modules = tags.filter(([tag]) => tag === "Module").map(([, value]) => value);
}

function hexByte(text: string | undefined): number | undefined {
  return text !== undefined && /^[0-9a-f]{2}$/i.test(text) ? Number.parseInt(text, 16) : undefined;
}

function decimal(text: string | undefined): number | undefined {
  return text !== undefined && /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}
