import {
  COMPLETION_REDIRECT,
  DIRECT_TRANSLATED,
  EGRESS_CONTROL,
  REQUEST_REDIRECT,
  SOURCE_VALIDATION,
  TRANSLATION_BLOCKING,
  UPSTREAM_FORWARDING,
} from "../acs.js";
import { capabilityName } from "../capability_name.js";
import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE } from "../config_space.js";
import type { Acs, Capability, Express, ExpressType } from "../function.js";

/** What one `Capabilities:` line and the `-vv` lines below it say. */
export interface LspciCapability {
  capability: Capability;
  express?: Express;
  acs?: Acs;
}

const EXPRESS = 0x10;
const ACS = 0x0d;

/**
 * Reads a capability. `entry` is the line behind `Capabilities: `, `details` the lines below it in order.
 * Undefined when its name is none that any pciutils prints.
 */
export function readCapability(entry: string, details: readonly string[]): LspciCapability | undefined {
  const [mark, digits] = /^\[([0-9a-f]{2,3})(?: v[0-9a-f]{1,2})?\] ?/i.exec(entry) ?? [];
  if (mark === undefined || digits === undefined) return undefined;
  const offset = Number.parseInt(digits, 16);
  if (offset < HEADER_SIZE || offset >= EXTENDED_SIZE) return undefined;
  const extended = offset >= CONVENTIONAL_SIZE;
  // A mail program may have broken the line inside the name.
  const text = `${entry.slice(mark.length)} ${details[0] ?? ""}`;
  const id = capabilityId(text, extended);
  if (id === undefined) return undefined;
  const capability = { offset, id, extended, name: capabilityName(id, extended) };
  const below = details.join(" ");
  if (!extended && id === EXPRESS) return { capability, express: readExpress(text, below) };
  if (extended && id === ACS) {
    const acs = readAcs(below);
    return { capability, ...(acs !== undefined && { acs }) };
  }
  return { capability };
}

/** Names of other pciutils versions than 3.9, older ones first. */
const OTHER_STANDARD: readonly (readonly [string, number])[] = [
  ["Message Signalled Interrupts", 0x05],
  ["VirtIO", 0x09],
];
const OTHER_EXTENDED: readonly (readonly [string, number])[] = [
  ["Root Complex Event Collector", 0x07],
  ["Root Bridge Control Block", 0x0a],
  ["Unknown (11)", 0x0b],
  ["Resizable BAR", 0x15],
  ["VF Resizable BAR", 0x24],
  ["Physical Layer 32.0 GT/s", 0x2a],
  ["Device 3", 0x2f],
  ["Integrity & Data Encryption", 0x30],
  ["Physical Layer 64.0 GT/s", 0x31],
  ["Flit Logging", 0x32],
  ["Flit Error Injection", 0x34],
  ["MMIO Register Block Locator", 0x36],
];
const HIGHEST_NAMED = 0x40;

/** Longest name first, so that `MSI-X` is not taken for `MSI`. */
const STANDARD_NAMES = namesOf(false, OTHER_STANDARD);
const EXTENDED_NAMES = namesOf(true, OTHER_EXTENDED);

function namesOf(extended: boolean, others: readonly (readonly [string, number])[]): (readonly [string, number])[] {
  const named = Array.from({ length: HIGHEST_NAMED }, (_, id): [string, number] => [capabilityName(id, extended), id]);
  return [...named.filter(([name]) => !name.startsWith("#")), ...others].sort(([a], [b]) => b.length - a.length);
}

/** The id behind a capability's name as a listing prints it, decorated, or as a number: `#19`, `Capability ID 0x15`. */
function capabilityId(text: string, extended: boolean): number | undefined {
  const number = /^(?:#([0-9a-f]{2,4})|(?:Extended )?Capability ID (?:0x)?([0-9a-f]{1,4}))\b/i.exec(text);
  const digits = number?.[1] ?? number?.[2];
  if (digits !== undefined) return Number.parseInt(digits, 16);
  const names = extended ? EXTENDED_NAMES : STANDARD_NAMES;
  return names.find(([name]) => text.startsWith(name) && !/^\w/.test(text.slice(name.length, name.length + 1)))?.[1];
}

/** Longer phrases before those they contain. */
const EXPRESS_TYPES: readonly (readonly [string, ExpressType])[] = [
  ["Legacy Endpoint", "legacy-endpoint"],
  ["Endpoint", "endpoint"],
  ["Root Port", "root-port"],
  ["Upstream Port", "upstream-port"],
  ["Downstream Port", "downstream-port"],
  ["PCI-Express to PCI/PCI-X Bridge", "pcie-to-pci-bridge"],
  ["PCI/PCI-X to PCI-Express Bridge", "pci-to-pcie-bridge"],
  ["PCI/PCI-X Bridge", "pcie-to-pci-bridge"],
  ["Root Complex Integrated Endpoint", "root-complex-endpoint"],
  ["Root Complex Event Collector", "root-complex-event-collector"],
];

/** Function level reset and slot number are printed with `-vv` only; without it a reset is not counted on. */
function readExpress(text: string, below: string): Express {
  const kind = text.replace(/^Express (?:\(v\d+\) )?/, "");
  const type = EXPRESS_TYPES.find(([phrase]) => kind.startsWith(phrase))?.[1] ?? "unknown";
  const slotImplemented = /\(Slot\+\)/.test(text);
  const slot = slotImplemented ? /\bSlot #(\d{1,4})\b/.exec(below)?.[1] : undefined;
  const devCap = /\bDevCap:/.exec(below);
  const reset = devCap === null ? null : /\bFLReset([-+])/.exec(below.slice(devCap.index));
  return {
    type,
    slotImplemented,
    ...(slot !== undefined && { slotNumber: Number(slot) }),
    functionLevelReset: reset?.[1] === "+",
  };
}

const ACS_BITS: readonly (readonly [string, number])[] = [
  ["SrcValid", SOURCE_VALIDATION],
  ["TransBlk", TRANSLATION_BLOCKING],
  ["ReqRedir", REQUEST_REDIRECT],
  ["CmpltRedir", COMPLETION_REDIRECT],
  ["UpstreamFwd", UPSTREAM_FORWARDING],
  ["EgressCtrl", EGRESS_CONTROL],
  ["DirectTrans", DIRECT_TRANSLATED],
];

/** A missing `ACSCtl:` line counts as nothing enabled: what was cut off a listing must not isolate. */
function readAcs(below: string): Acs | undefined {
  const [capable, control] = [below.indexOf("ACSCap:"), below.indexOf("ACSCtl:")];
  if (capable < 0) return undefined;
  return {
    supported: acsBits(below.slice(capable, control < capable ? undefined : control)),
    enabled: control < 0 ? 0 : acsBits(below.slice(control)),
  };
}

function acsBits(text: string): number {
  return ACS_BITS.reduce((bits, [flag, bit]) => (text.includes(`${flag}+`) ? bits | bit : bits), 0);
}
