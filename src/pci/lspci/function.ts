import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE } from "../config_space.js";
import { decodeFunction } from "../decode_function.js";
import type { Bar, Capability, PciFunction } from "../function.js";
import { numberBars } from "./bar.js";
import { type LspciCapability, readCapability } from "./capability.js";
import { type LspciFields, readField } from "./field.js";
import { type LspciHeader, readHeader } from "./header.js";
import type { LspciProblem, LspciRecord } from "./record.js";
import { readTags } from "./tags.js";

/** What a listing says of a function besides what every source does. */
export interface LspciText {
  /** Line number of the device line, from 1. */
  line: number;
  /** `3D controller`; absent in listings with numbers only. */
  className?: string;
  subsystemName?: string;
  /** `Kernel modules:`, in the order printed. */
  modules: string[];
  physicalSlot?: string;
  iommuGroup?: number;
  /** The listing shows capabilities (`-v` as root, or a hex dump): one that is not there does not exist. */
  capabilitiesKnown: boolean;
  /** BAR numbers were counted, not printed: `-v` has none. */
  barsCounted: boolean;
  /** A BAR is one that only the kernel knows of, as those of an SR-IOV virtual function. */
  virtualBars: boolean;
}

/** A function as a listing shows it. */
export interface LspciFunction extends PciFunction {
  text: LspciText;
}

/** Puts the lines of one function together; what cannot be used of them goes to `problems`. */
export function readFunction(record: LspciRecord, problems: LspciProblem[]): LspciFunction | undefined {
  const fields: LspciFields = { bars: [], damage: [] };
  const header =
    record.header === undefined ? readTags(record.tags, fields) : readHeader(record.header.parts.join(" "));
  if (header === undefined) return undefined;
  const capabilities: LspciCapability[] = [];
  let denied = false;
  for (const { kind, line, parts } of record.items) {
    if (kind === "field") {
      const message = readField(fields, parts.join(" "));
      if (message !== undefined) problems.push({ line, message });
      continue;
    }
    const [entry = "", ...details] = [(parts[0] ?? "").replace(/^Capabilities: /, ""), ...parts.slice(1)];
    const broken = /<chain (?:looped|broken)>/.exec(entry)?.[0];
    if (broken !== undefined) fields.damage.push(`capability list: ${broken}`);
    else if (entry.startsWith("<access denied>")) denied = true;
    else {
      const capability = readCapability(entry, details);
      if (capability === undefined) problems.push({ line, message: "a capability with a name that no lspci prints" });
      else capabilities.push(capability);
    }
  }
  const dumpProblem = record.dump.problem();
  if (dumpProblem !== undefined) problems.push({ line: record.line, message: dumpProblem });
  const { bars, left } = numberBars(fields.bars);
  if (left > 0) problems.push({ line: record.line, message: `${left} more memory or I/O regions than a function has` });

  const listed = listedFunction(header, fields, bars, capabilities);
  const config = record.dump.config();
  const numbered = fields.bars.every(({ index }) => index !== undefined);
  return {
    ...(config === undefined ? listed : withDump(listed, config, numbered)),
    text: {
      line: record.line,
      ...(header.className !== undefined && { className: header.className }),
      ...(fields.subsystem?.name !== undefined && { subsystemName: fields.subsystem.name }),
      modules: fields.modules ?? [],
      ...(fields.physicalSlot !== undefined && { physicalSlot: fields.physicalSlot }),
      ...(fields.iommuGroup !== undefined && { iommuGroup: fields.iommuGroup }),
      capabilitiesKnown: (fields.verbose === true && !denied) || (config?.length ?? 0) >= CONVENTIONAL_SIZE,
      barsCounted: !numbered,
      virtualBars: fields.bars.some(({ virtual, index }) => virtual && index !== "rom"),
    },
  };
}

function listedFunction(
  header: LspciHeader,
  fields: LspciFields,
  bars: Bar[],
  capabilities: readonly LspciCapability[],
): PciFunction {
  const { device, classId, revision } = header;
  const subsystem = fields.subsystem ?? header.subsystem;
  const express = capabilities.find((entry) => entry.express !== undefined)?.express;
  const acs = capabilities.find((entry) => entry.acs !== undefined)?.acs;
  const headerType = headerTypeOf(header, fields);
  return {
    address: header.address,
    ...(device.vendorId !== undefined && { vendorId: device.vendorId }),
    ...(device.deviceId !== undefined && { deviceId: device.deviceId }),
    ...(subsystem?.vendorId !== undefined && { subsystemVendorId: subsystem.vendorId }),
    ...(subsystem?.deviceId !== undefined && { subsystemId: subsystem.deviceId }),
    // lspci leaves a programming interface of 0 out.
    ...(classId !== undefined && { classCode: (classId << 8) | (header.progIf ?? 0) }),
    ...(revision !== undefined && { revision }),
    ...(device.name !== undefined && { name: device.name }),
    ...(headerType !== undefined && { headerType }),
    bars,
    capabilities: capabilities.map(({ capability }) => capability),
    ...(express !== undefined && { express }),
    ...(acs !== undefined && { acs }),
    ...(fields.buses !== undefined && { buses: fields.buses }),
    ...(header.parent !== undefined && { parent: header.parent }),
    ...(fields.driver !== undefined && { driver: fields.driver }),
    ...(fields.numaNode !== undefined && { numaNode: fields.numaNode }),
    ...(fields.irq !== undefined && { irq: fields.irq }),
    ...(fields.damage.length > 0 && { damage: fields.damage }),
  };
}

/** lspci does not print it, but each layout has lines of its own; without `-v` nothing tells. */
function headerTypeOf(header: LspciHeader, fields: LspciFields): number | undefined {
  if (fields.cardBus === true || (fields.buses !== undefined && header.classId === 0x0607)) return 2;
  if (fields.buses !== undefined) return 1;
  const unknown = fields.damage.some((text) => text.startsWith("Unknown header type"));
  return fields.verbose === true && !unknown ? 0 : undefined;
}

/**
 * A function from its hex dump, with what only the text knows on top: names, sizes, driver, NUMA node, IRQ. The dump
 * tells what a function is in full; its ids are all ones on a virtual function, whose ids only the kernel knows.
 */
function withDump(listed: PciFunction, config: Uint8Array, numbered: boolean): PciFunction {
  const decoded = decodeFunction(listed.address, config.length === HEADER_SIZE ? withoutList(config) : config);
  const damage = [...(decoded.damage ?? []), ...(listed.damage ?? [])];
  if (contradicts(listed, decoded)) damage.push("the hex dump is of another device than the line above it names");
  const merged: PciFunction = {
    ...listed,
    ...decoded,
    ...(isId(listed.vendorId) && { vendorId: listed.vendorId }),
    ...(isId(listed.deviceId) && { deviceId: listed.deviceId }),
    ...(listed.name !== undefined && { name: listed.name }),
    ...(listed.irq !== undefined && { irq: listed.irq }),
    bars: mergeBars(listed.bars, decoded.bars, numbered),
    capabilities: mergeCapabilities(listed.capabilities, decoded.capabilities, config.length),
  };
  return damage.length > 0 ? { ...merged, damage } : merged;
}

/** Status register bit 4: a capability list. `-x` stops before it, which is no damage. */
function withoutList(header: Uint8Array): Uint8Array {
  return header.map((byte, offset) => (offset === 0x06 ? byte & ~0x10 : byte));
}

function isId(id: number | undefined): id is number {
  return id !== undefined && id !== 0xffff;
}

function contradicts(listed: PciFunction, decoded: PciFunction): boolean {
  const differ = (a: number | undefined, b: number | undefined) => isId(a) && isId(b) && a !== b;
  return differ(listed.vendorId, decoded.vendorId) || differ(listed.deviceId, decoded.deviceId);
}

/**
 * The dump has the numbers and the addresses as the bus sees them, the text has the sizes, and addresses where the
 * device holds none. Regions without a number go by their order.
 */
function mergeBars(listed: readonly Bar[], decoded: readonly Bar[], numbered: boolean): Bar[] {
  const left = [...decoded];
  const merged = listed.map((bar) => {
    const found = left.findIndex((other) => (numbered ? other.index === bar.index : isSameKind(bar, other)));
    const [other] = found < 0 ? [] : left.splice(found, 1);
    if (other === undefined) return bar;
    return { ...bar, index: other.index, address: other.address === 0n ? bar.address : other.address };
  });
  return [...merged, ...left].sort((a, b) => orderOf(a) - orderOf(b));
}

function isSameKind(a: Bar, b: Bar): boolean {
  const rom = (a.index === "rom") === (b.index === "rom");
  return rom && a.kind === b.kind && a.width === b.width && a.prefetchable === b.prefetchable;
}

function orderOf({ index }: Bar): number {
  return index === "rom" ? 6 : index;
}

/** What a dump is too short for comes from the text. */
function mergeCapabilities(listed: Capability[], decoded: Capability[], dumped: number): Capability[] {
  if (dumped === EXTENDED_SIZE) return decoded;
  const offsets = new Set(decoded.map(({ offset }) => offset));
  return [...decoded, ...listed.filter(({ offset }) => !offsets.has(offset))];
}
