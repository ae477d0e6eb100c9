import { read16, read32 } from "./config_space.js";
import type { Express, ExpressType } from "./function.js";

/** Device/Port Type codes (PCIe base specification 7.5.3.2). */
const TYPES: ReadonlyMap<number, ExpressType> = new Map([
  [0x0, "endpoint"],
  [0x1, "legacy-endpoint"],
  [0x4, "root-port"],
  [0x5, "upstream-port"],
  [0x6, "downstream-port"],
  [0x7, "pcie-to-pci-bridge"],
  [0x8, "pci-to-pcie-bridge"],
  [0x9, "root-complex-endpoint"],
  [0xa, "root-complex-event-collector"],
]);

/** Types whose secondary side is a link, and so may have a slot. */
function hasSlotRegisters(type: ExpressType): boolean {
  return type === "root-port" || type === "downstream-port" || type === "pci-to-pcie-bridge";
}

/** Others have no function level reset, and their bit for it is reserved. */
function isEndpoint(type: ExpressType): boolean {
  return type === "endpoint" || type === "legacy-endpoint" || type === "root-complex-endpoint";
}

function hasLink(type: ExpressType): boolean {
  return type !== "root-complex-endpoint" && type !== "root-complex-event-collector";
}

/**
 * What isolation needs of the PCI Express capability.
 * @throws ConfigSpaceError when the capability runs past the end
 */
export function decodeExpress(config: Uint8Array, offset: number): Express {
  const flags = read16(config, offset + 2);
  const type = TYPES.get((flags >> 4) & 0xf) ?? "unknown";
  const slotImplemented = (flags & 0x100) !== 0 && hasSlotRegisters(type);
  const express: Express = {
    type,
    slotImplemented,
    functionLevelReset: isEndpoint(type) && (read32(config, offset + 0x04) & 0x10000000) !== 0,
  };
  if (slotImplemented) express.slotNumber = read32(config, offset + 0x14) >>> 19;
  return express;
}

/** Active State Power Management, as supported or as enabled. */
export interface Aspm {
  l0s: boolean;
  l1: boolean;
}

/** The link a port or endpoint is on. Speeds in GT/s per lane, null for codes nobody has defined; widths in lanes. */
export interface ExpressLink {
  port: number;
  maxSpeed: number | null;
  maxWidth: number;
  aspmSupported: Aspm;
  aspmEnabled: Aspm;
  disabled: boolean;
  /** Speed and width it trained to; the width is 0 while it is down. */
  speed: number | null;
  width: number;
  training: boolean;
  /** Data link layer active; false too where the port does not report it. */
  active: boolean;
}

/** The slot below a port. */
export interface ExpressSlot {
  number: number;
  hotPlug: boolean;
  surprise: boolean;
  attentionButton: boolean;
  powerController: boolean;
  /** In watts; Infinity for "above 600 W". */
  powerLimit: number;
  /** A card is present. */
  occupied: boolean;
}

/** Contents of the PCI Express capability. */
export interface ExpressContents extends Express {
  kind: "express";
  version: number;
  interruptMessage: number;
  /** Largest payload supported and in use, and largest read request, in bytes. */
  maxPayloadSupported: number;
  maxPayload: number;
  maxReadRequest: number;
  link?: ExpressLink;
  slot?: ExpressSlot;
}

/** @throws ConfigSpaceError when the capability runs past the end */
export function decodeExpressContents(config: Uint8Array, offset: number): ExpressContents {
  const flags = read16(config, offset + 2);
  const deviceControl = read16(config, offset + 0x08);
  const contents: ExpressContents = {
    kind: "express",
    ...decodeExpress(config, offset),
    version: flags & 0xf,
    interruptMessage: (flags >> 9) & 0x1f,
    maxPayloadSupported: 128 << (read32(config, offset + 0x04) & 0x7),
    maxPayload: 128 << ((deviceControl >> 5) & 0x7),
    maxReadRequest: 128 << ((deviceControl >> 12) & 0x7),
  };
  if (hasLink(contents.type)) contents.link = decodeLink(config, offset);
  if (contents.slotImplemented) contents.slot = decodeSlot(config, offset);
  return contents;
}

const SPEEDS: readonly number[] = [2.5, 5, 8, 16, 32, 64];

function speed(code: number): number | null {
  return SPEEDS[code - 1] ?? null;
}

function aspm(code: number): Aspm {
  return { l0s: (code & 1) !== 0, l1: (code & 2) !== 0 };
}

function decodeLink(config: Uint8Array, offset: number): ExpressLink {
  const capabilities = read32(config, offset + 0x0c);
  const control = read16(config, offset + 0x10);
  const status = read16(config, offset + 0x12);
  return {
    port: capabilities >>> 24,
    maxSpeed: speed(capabilities & 0xf),
    maxWidth: (capabilities >>> 4) & 0x3f,
    aspmSupported: aspm(capabilities >>> 10),
    aspmEnabled: aspm(control),
    disabled: (control & 0x10) !== 0,
    speed: speed(status & 0xf),
    width: (status >> 4) & 0x3f,
    training: (status & 0x800) !== 0,
    active: (status & 0x2000) !== 0,
  };
}

function decodeSlot(config: Uint8Array, offset: number): ExpressSlot {
  const capabilities = read32(config, offset + 0x14);
  return {
    number: capabilities >>> 19,
    hotPlug: (capabilities & 0x40) !== 0,
    surprise: (capabilities & 0x20) !== 0,
    attentionButton: (capabilities & 0x01) !== 0,
    powerController: (capabilities & 0x02) !== 0,
    powerLimit: powerLimit((capabilities >>> 7) & 0xff, (capabilities >>> 15) & 0x3),
    occupied: (read16(config, offset + 0x1a) & 0x40) !== 0,
  };
}

/** At scale 1, values from 0xf0 on stand for 250 W and steps of 25 W, and 0xff for anything above 600 W. */
function powerLimit(value: number, scale: number): number {
  if (scale === 0 && value === 0xff) return Number.POSITIVE_INFINITY;
  if (scale === 0 && value >= 0xf0) return 250 + 25 * (value - 0xf0);
  return value / 10 ** scale;
}
