import { isAddress, type PciAddress, parseAddress } from "../address.js";
import { classByName } from "../class_code.js";
import { type NamedId, type NamePair, readNamedId, readNamePair } from "./names.js";

/** What a device line says: address, class, vendor and device, revision. */
export interface LspciHeader {
  address: PciAddress;
  /** The bridge in front of it, where `lspci -PP` printed the path. */
  parent?: PciAddress;
  className?: string;
  /** Base class and subclass, 16 bits. */
  classId?: number;
  device: NamePair;
  subsystem?: NamePair;
  revision?: number;
  progIf?: number;
}

const START =
  /^((?:[0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])((?:\/[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]){0,32})[ \t]+(\S.*)$/i;
const NUMERIC = /^(?:Class )?([0-9a-f]{4}): ([0-9a-f]{4}:[0-9a-f]{4})\b/i;

/**
 * Reads a device line in any of `lspci`'s spellings (plain, `-n`, `-nn`, `-mm`, `-D`, `-PP`), or gives undefined for a
 * text that is none. An address alone does not make one: a class name, a class number, or numeric ids must follow.
 */
export function readHeader(text: string): LspciHeader | undefined {
  const [, first, path, body] = START.exec(text) ?? [];
  if (first === undefined || path === undefined || body === undefined) return undefined;
  const place = readPlace(first, path);
  if (place === undefined) return undefined;
  if (body.startsWith('"')) return readQuoted(place, body);
  const numeric = NUMERIC.exec(body);
  if (numeric?.[1] !== undefined && numeric[2] !== undefined) {
    const classId = Number.parseInt(numeric[1], 16);
    return { ...place, classId, device: readNamePair(numeric[2]), ...readMarks(body) };
  }
  return readNamed(place, body);
}

/** Whether a text begins as a device line does, with an address that has a domain, but is none that can be read. */
export function looksLikeHeader(text: string): boolean {
  return /^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]( |\/[0-9a-f]{2}\.[0-7])/i.test(text);
}

/** The device's own address is the last of the path that `-PP` prints; all of it is in the first one's domain. */
function readPlace(first: string, path: string): Pick<LspciHeader, "address" | "parent"> | undefined {
  const domain = first.length > "00:00.0".length ? first.slice(0, first.indexOf(":") + 1) : "";
  const steps = [
    first,
    ...path
      .split("/")
      .slice(1)
      .map((step) => domain + step),
  ];
  if (!steps.every(isAddress)) return undefined;
  const addresses = steps.map(parseAddress);
  const [parent, address] = [addresses.at(-2), addresses.at(-1)];
  return address === undefined ? undefined : { address, ...(parent !== undefined && { parent }) };
}

function readNamed(place: Pick<LspciHeader, "address" | "parent">, body: string): LspciHeader | undefined {
  const colon = body.indexOf(": ");
  if (colon < 0) return undefined;
  const { name: className, id } = readNamedId(body.slice(0, colon));
  const rest = body.slice(colon + 2);
  const marks = readMarks(rest);
  const device = readNamePair(rest.slice(0, endOfName(rest)).trim());
  const classId = id ?? (className === undefined ? undefined : classByName(className));
  // A class that no pci.ids had when this was written still makes a device line, when what follows is one's.
  const convincing = classId !== undefined || device.vendorId !== undefined || marks.revision !== undefined;
  if (!convincing) return undefined;
  return {
    ...place,
    ...(className !== undefined && { className }),
    ...(classId !== undefined && { classId }),
    device,
    ...marks,
  };
}

/** `00:00.0 "3D controller" "NVIDIA Corporation" "GV100GL" -ra1 -p00 "NVIDIA Corporation" "Device 1212"` (`-mm`). */
function readQuoted(place: Pick<LspciHeader, "address" | "parent">, body: string): LspciHeader | undefined {
  const token = /\s*(?:"((?:[^"\\]|\\.)*)"|-([rp])([0-9a-f]{2}))/iy;
  const fields: NamedId[] = [];
  const marks = new Map<string, number>();
  for (let match = token.exec(body); match !== null; match = token.exec(body)) {
    const [, quoted, mark, value] = match;
    if (quoted !== undefined) fields.push(readNamedId(quoted.replace(/\\(.)/g, "$1")));
    else if (mark !== undefined && value !== undefined) marks.set(mark, Number.parseInt(value, 16));
  }
  const [kind, vendor, device, subsystemVendor, subsystem] = fields;
  if (kind === undefined || vendor === undefined || device === undefined) return undefined;
  const classId = kind.id ?? classByName(kind.name ?? "");
  const revision = marks.get("r");
  const progIf = marks.get("p");
  const named = subsystemVendor !== undefined && subsystem !== undefined && subsystemVendor.name !== "";
  return {
    ...place,
    ...(kind.name !== undefined && { className: kind.name }),
    ...(classId !== undefined && { classId }),
    device: pairOf(vendor, device),
    ...(named && { subsystem: pairOf(subsystemVendor, subsystem) }),
    ...(revision !== undefined && { revision }),
    ...(progIf !== undefined && { progIf }),
  };
}

/** A vendor and a device given one by one, as `-mm` and `-vmm` do, in the form of the plain listing. */
export function pairOf(vendor: NamedId, device: NamedId): NamePair {
  const unnamed = device.id === undefined ? "Device" : `Device ${device.id.toString(16).padStart(4, "0")}`;
  const name = vendor.name === undefined ? device.name : `${vendor.name} ${device.name ?? unnamed}`;
  const { vendorId, deviceId } = name === undefined ? {} : readNamePair(name);
  const known = { vendorId: vendor.id ?? vendorId, deviceId: device.id ?? deviceId };
  return {
    ...(name !== undefined && { name }),
    ...(known.vendorId !== undefined && { vendorId: known.vendorId }),
    ...(known.deviceId !== undefined && { deviceId: known.deviceId }),
  };
}

function readMarks(text: string): Pick<LspciHeader, "revision" | "progIf"> {
  const revision = /\(rev ([0-9a-f]{2})\)/i.exec(text)?.[1];
  const progIf = /\(prog-if ([0-9a-f]{2})\b/i.exec(text)?.[1];
  return {
    ...(revision !== undefined && { revision: Number.parseInt(revision, 16) }),
    ...(progIf !== undefined && { progIf: Number.parseInt(progIf, 16) }),
  };
}

function endOfName(rest: string): number {
  const mark = /\s*\((?:rev [0-9a-f]{2}\)|prog-if [0-9a-f]{2}\b)/i.exec(rest);
  return mark === null ? rest.length : mark.index;
}
