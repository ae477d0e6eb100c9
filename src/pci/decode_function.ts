import { decodeAcs } from "./acs.js";
import type { PciAddress } from "./address.js";
import { decodeBars, decodeRom } from "./bar.js";
import { readCapabilities } from "./capability_list.js";
import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE, read16, read32 } from "./config_space.js";
import { decodeExpress } from "./express.js";
import type { Bar, PciFunction } from "./function.js";
import { CARDBUS_BRIDGE, decodeHeader, type Header, layoutOf, PCI_BRIDGE } from "./header.js";

/** Bytes Linux lets an ordinary user read of a CardBus bridge, whose header is longer than 64. */
const CARDBUS_SIZE = 0x80;

const EXPRESS = 0x10;
const SUBSYSTEM = 0x0d;
const ACS = 0x0d;

/**
 * Decodes a whole function from its raw config space of 64, 256 or 4096 bytes. It never throws: what is wrong with the
 * space, other sizes included, is in `damage` and what can be read of it is decoded. Virtual functions come without
 * ids, which only their physical function has.
 */
export function decodeFunction(address: PciAddress, config: Uint8Array): PciFunction {
  const damage: string[] = [];
  const fn: PciFunction = { address, bars: [], capabilities: [] };
  if (config.length < HEADER_SIZE) {
    damage.push(`config space of ${config.length} bytes is too short for a header of ${HEADER_SIZE}`);
  } else if (read32(config, 0x00) === 0xffffffff && read32(config, 0x08) === 0xffffffff) {
    damage.push("the function does not answer: config space from 0x00 on is all ones");
  } else {
    const space = config.length > EXTENDED_SIZE ? config.subarray(0, EXTENDED_SIZE) : config;
    const header = decodeHeader(space);
    checkSize(config.length, header.headerType, damage);
    fillHeader(fn, header);
    fn.bars = readBars(space, header, damage);
    fn.capabilities = readCapabilities(space, damage);
    fillFromCapabilities(fn, space);
  }
  if (damage.length > 0) fn.damage = damage;
  return fn;
}

function checkSize(size: number, headerType: number, damage: string[]): void {
  if (size === HEADER_SIZE || size === CONVENTIONAL_SIZE || size === EXTENDED_SIZE) return;
  if (size === CARDBUS_SIZE && headerType === CARDBUS_BRIDGE) return;
  damage.push(`config space of ${size} bytes: expected 64, 256 or 4096, so the read was cut short or is not of one`);
}

function fillHeader(fn: PciFunction, header: Header): void {
  if (header.vendorId !== 0xffff) {
    fn.vendorId = header.vendorId;
    fn.deviceId = header.deviceId;
  }
  fn.classCode = header.classCode;
  fn.revision = header.revision;
  fn.headerType = header.headerType;
  fn.multifunction = header.multifunction;
  if (header.buses !== undefined) fn.buses = header.buses;
  if (header.subsystem !== undefined) fillSubsystem(fn, header.subsystem.vendorId, header.subsystem.id);
  // Line 0xff means unconnected; 0 is what firmware leaves that does not use lines.
  const { interruptPin, interruptLine } = header;
  if (interruptPin !== 0 && interruptLine !== 0 && interruptLine !== 0xff) fn.irq = interruptLine;
}

/** Vendor 0 or all ones: not implemented. */
function fillSubsystem(fn: PciFunction, vendorId: number, id: number): void {
  if (vendorId === 0 || vendorId === 0xffff) return;
  fn.subsystemVendorId = vendorId;
  fn.subsystemId = id;
}

function readBars(config: Uint8Array, header: Header, damage: string[]): Bar[] {
  const layout = layoutOf(header.headerType);
  if (layout === undefined) {
    damage.push(`header type ${header.headerType} at 0x0e is unknown: only the common registers are decoded`);
    return [];
  }
  const decoding = { io: (header.command & 0x1) !== 0, memory: (header.command & 0x2) !== 0 };
  const bars = decodeBars(config, 0x10, layout.bars, decoding, damage);
  const rom = layout.rom === undefined ? undefined : decodeRom(config, layout.rom, decoding);
  if (rom !== undefined) bars.push(rom);
  return bars;
}

/** The first capability of each kind counts, as it does for Linux; the walk has checked that it is all there. */
function fillFromCapabilities(fn: PciFunction, config: Uint8Array): void {
  for (const { offset, id, extended } of fn.capabilities) {
    if (extended) {
      if (id === ACS) fn.acs ??= decodeAcs(config, offset);
    } else if (id === EXPRESS) {
      fn.express ??= decodeExpress(config, offset);
    } else if (id === SUBSYSTEM && fn.headerType === PCI_BRIDGE && fn.subsystemVendorId === undefined) {
      fillSubsystem(fn, read16(config, offset + 4), read16(config, offset + 6));
    }
  }
}
