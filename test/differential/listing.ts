import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { type PciAddress, parseAddress } from "../../src/pci/address.js";
import { run } from "./programs.js";

/** The dump `lspci -F` reads, which is what `lspci -xxxx` prints. */
function hexDump(configs: ReadonlyMap<PciAddress, Uint8Array>): string {
  const lines: string[] = [];
  for (const [address, config] of configs) {
    lines.push(`${address} Device`);
    for (let at = 0; at < config.length; at += 16) {
      const bytes = [...config.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, "0"));
      lines.push(`${at.toString(16).padStart(2, "0")}: ${bytes.join(" ")}`);
    }
    lines.push("");
  }
  return `${lines.join("\n")}\n`;
}

/** What lspci prints of functions with these spaces. @throws when it dies */
export function lspci(
  directory: string,
  configs: ReadonlyMap<PciAddress, Uint8Array>,
  options: readonly string[],
): string {
  const file = join(directory, "dump");
  writeFileSync(file, hexDump(configs));
  return run("lspci", ["-F", file, ...options]).toString("latin1");
}

/** The lines of each function of a listing with domains. */
export function linesByAddress(listing: string): Map<PciAddress, string[]> {
  const blocks = listing.split("\n\n").filter((block) => block.trim() !== "");
  return new Map(blocks.map((block) => [parseAddress(block.slice(0, block.indexOf(" "))), block.split("\n")]));
}

export interface Listed {
  offset: number;
  extended: boolean;
  /** The first line after the offset, and the lines below it. */
  text: string;
  details: string;
}

export function listed(lines: readonly string[]): Listed[] {
  const found: Listed[] = [];
  // lspci has nothing to say of PCI-X in a CardBus bridge, not even a line's end.
  const whole = lines.flatMap((line) =>
    line
      .replace(/\] (?=\tCapabilities: |$)/g, "] PCI-X\n")
      .trimEnd()
      .split("\n"),
  );
  for (const line of whole) {
    const match = /^\tCapabilities: \[([0-9a-f]+)( v\d+)?\] (.*)$/.exec(line);
    const [, offset, extended, text] = match ?? [];
    if (offset !== undefined && text !== undefined) {
      found.push({ offset: Number.parseInt(offset, 16), extended: extended !== undefined, text, details: "" });
    } else if (line.startsWith("\t\t")) {
      const last = found.at(-1);
      if (last !== undefined) last.details += `${line}\n`;
    }
  }
  return found;
}

/** The name at the beginning of lspci's text, its `Capability ID 0x2a` written as `#2a`. */
export function nameIn(text: string, name: string): string {
  const unknown = /^(?:Extended )?Capability ID 0x([0-9a-f]+)/.exec(text);
  if (unknown?.[1] !== undefined) return `#${unknown[1].padStart(2, "0")}`;
  const rest = text.slice(name.length);
  return text.startsWith(name) && /^(?:$|[: ])/.test(rest) ? name : text;
}
