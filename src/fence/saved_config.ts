import {
  PCI_CAPABILITIES_POINTER,
  PCI_COMMAND,
  PCI_COMMAND_MEMORY,
  PCI_ROM,
  PCI_STATUS,
  PCI_STATUS_CAPABILITIES,
} from "./config_offsets.js";
import { FenceError, hex32 } from "./error.js";
import type { GpuPort } from "./gpu_port.js";

/** One value of config space and where it goes back to. */
interface SavedValue {
  offset: number;
  size: 1 | 2 | 4;
  value: number;
}

/** What a reset loses of a function's config space, in the order in which it is put back. */
export type SavedConfig = readonly SavedValue[];

const PCI_CACHE_LINE_SIZE = 0x0c;
const PCI_BARS = [0x10, 0x14, 0x18, 0x1c, 0x20, 0x24] as const;
const PCI_INTERRUPT_LINE = 0x3c;
const CAPABILITY_EXPRESS = 0x10;
/** The last place in 256 bytes where a version 2 Express capability has room. */
const LAST_EXPRESS = 0xc4;
/** Device, Link, Device 2 and Link 2 Control of the Express capability (PCIe base specification 7.5.3). */
const EXPRESS_CONTROLS = [0x08, 0x10, 0x28, 0x30] as const;
/** More capabilities than this do not fit into 256 bytes: the list loops. */
const MOST_CAPABILITIES = 48;

/**
 * Reads what a secondary bus reset will lose: BARs, the PCI Express control registers (a wrong maximum payload size stops
 * all traffic) and the command register. Interrupts stay off after a reset: whoever drives the function sets them up.
 * Everything is read twice, for it is written back for as long as the GPU is fenced: of a function that does not answer for
 * a moment, all ones would be.
 * @throws FenceError `EFENCE_UNREADABLE` when config space does not answer, or not twice the same.
 */
export function saveConfig(port: GpuPort): SavedConfig {
  const first = readSaved(port);
  const second = readSaved(port);
  const other = second.find(({ offset, value }, at) => first[at]?.offset !== offset || first[at]?.value !== value);
  if (other === undefined && first.length === second.length) return second;
  const where = other === undefined ? "the list of capabilities" : `config register ${hex32(other.offset)}`;
  throw new FenceError(
    "EFENCE_UNREADABLE",
    `config space does not answer reliably: ${where} was read twice and differs`,
  );
}

function readSaved(port: GpuPort): SavedConfig {
  requireAnswer(port);
  const save = (offset: number, size: 1 | 2 | 4) => ({ offset, size, value: port.readConfig(offset, size) });
  const express = expressCapability(port);
  return [
    ...(express === undefined ? [] : EXPRESS_CONTROLS.map((control) => save(express + control, 2))),
    save(PCI_CACHE_LINE_SIZE, 1),
    save(PCI_INTERRUPT_LINE, 1),
    ...[...PCI_BARS, PCI_ROM].map((bar) => save(bar, 4)),
    // Last, so that nothing is decoded at an address that is only half restored.
    save(PCI_COMMAND, 2),
  ];
}

/**
 * Puts config space back after a reset, the command register last.
 * @throws FenceError `EFENCE_UNREADABLE` when config space does not answer, `EFENCE_RESTORE` when a BAR or the command
 * register does not take its value.
 */
export function restoreConfig(port: GpuPort, saved: SavedConfig): void {
  requireAnswer(port);
  const command = port.readConfig(PCI_COMMAND, 2);
  if ((command & PCI_COMMAND_MEMORY) !== 0) port.writeConfig(PCI_COMMAND, 2, command & ~PCI_COMMAND_MEMORY);
  for (const { offset, size, value } of saved) port.writeConfig(offset, size, value);
  for (const { offset, size, value } of saved) {
    const now = port.readConfig(offset, size);
    if (now === value || !(isBar(offset) || offset === PCI_COMMAND)) continue;
    throw new FenceError(
      "EFENCE_RESTORE",
      `config register ${hex32(offset)} was ${hex32(value)} before the reset and reads ${hex32(now)} after it`,
    );
  }
}

/** Whether the function still has the addresses that it had: a reset, by whomever, leaves it without. */
export function hasItsAddresses(port: GpuPort, saved: SavedConfig): boolean {
  requireAnswer(port);
  return saved.every(({ offset, size, value }) => !isBar(offset) || port.readConfig(offset, size) === value);
}

function isBar(offset: number): boolean {
  return PCI_BARS.some((bar) => bar === offset);
}

function requireAnswer(port: GpuPort): void {
  if (port.readConfig(0, 4) >>> 0 !== 0xffffffff) return;
  throw new FenceError("EFENCE_UNREADABLE", "config space does not answer (all ones)");
}

/** Where the Express capability lies, when there is one with its second set of registers. */
function expressCapability(port: GpuPort): number | undefined {
  if ((port.readConfig(PCI_STATUS, 2) & PCI_STATUS_CAPABILITIES) === 0) return undefined;
  let at = port.readConfig(PCI_CAPABILITIES_POINTER, 1) & ~3;
  for (let hops = 0; hops < MOST_CAPABILITIES && at >= 0x40; hops++) {
    const version = port.readConfig(at + 2, 1) & 0xf;
    if (port.readConfig(at, 1) === CAPABILITY_EXPRESS) return version >= 2 && at <= LAST_EXPRESS ? at : undefined;
    at = port.readConfig(at + 1, 1) & ~3;
  }
  return undefined;
}
