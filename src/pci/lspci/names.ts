/** A vendor and device as a listing gives them: by name, by number, or both. */
export interface NamePair {
  /** As `lspci` without `-n` prints the pair; absent when the listing has numbers only. */
  name?: string;
  vendorId?: number;
  deviceId?: number;
}

/** One thing with a name, a number, or both. */
export interface NamedId {
  name?: string;
  id?: number;
}

/** Vendors whose number can be told from their name: with "Device 15fe" behind it the pair of numbers is complete. */
const VENDORS: readonly (readonly [name: string, id: number])[] = [
  ["NVIDIA Corporation", 0x10de],
  ["nVidia Corporation", 0x10de],
  ["IBM", 0x1014],
];

/**
 * Reads what `lspci` prints for a vendor and device: `NVIDIA Corporation GV100GL [Tesla V100 SXM2]`, the same with
 * ` [10de:1db1]` behind it (`-nn`), `10de:1db1` (`-n`), `NVIDIA Corporation Device 15fe` (device not in the reader's
 * pci.ids) and `Device 10de:15fe` (neither is).
 */
export function readNamePair(text: string): NamePair {
  const numbers = /^(?:Device )?\[?([0-9a-f]{4}):([0-9a-f]{4})\]?$/i.exec(text);
  if (numbers !== null) {
    return { ...(text.startsWith("Device") && { name: text.replace(/[[\]]/g, "") }), ...ids(numbers[1], numbers[2]) };
  }
  const both = / \[([0-9a-f]{4}):([0-9a-f]{4})\]$/i.exec(text);
  if (both !== null) {
    const name = text.slice(0, both.index);
    return { name: name.endsWith(" Device") ? `${name} ${both[2]}` : name, ...ids(both[1], both[2]) };
  }
  const unnamed = / Device ([0-9a-f]{4})$/i.exec(text);
  const vendor = unnamed === null ? undefined : VENDORS.find(([name]) => name === text.slice(0, unnamed.index));
  return {
    name: text,
    ...(vendor !== undefined && { vendorId: vendor[1] }),
    ...(unnamed?.[1] !== undefined && { deviceId: Number.parseInt(unnamed[1], 16) }),
  };
}

/** Reads one field of `lspci -mm` or `-vmm`: `0302`, `3D controller`, `3D controller [0302]` or `Device [1212]`. */
export function readNamedId(text: string): NamedId {
  const number = /^(?:(?:Class|Vendor|Device|Unknown vendor) )?\[?([0-9a-f]{4})\]?$/i.exec(text);
  if (number?.[1] !== undefined) return { id: Number.parseInt(number[1], 16) };
  const both = / \[([0-9a-f]{4})\]$/i.exec(text);
  if (both?.[1] !== undefined) return { name: text.slice(0, both.index), id: Number.parseInt(both[1], 16) };
  return { name: text };
}

function ids(vendor: string | undefined, device: string | undefined): Pick<NamePair, "vendorId" | "deviceId"> {
  return { vendorId: Number.parseInt(vendor ?? "", 16), deviceId: Number.parseInt(device ?? "", 16) };
}
