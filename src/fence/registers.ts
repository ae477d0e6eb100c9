import type { Part } from "../machine/machine.js";
import { isReadable, NV_PMC_BOOT_0, PART_FACTS } from "../machine/part.js";
import { PCI_BAR0, PCI_COMMAND, PCI_COMMAND_MEMORY } from "./config_offsets.js";
import { FenceError, hex32 } from "./error.js";
import type { GpuPort } from "./gpu_port.js";

/** A part that can be fenced. */
export type FencedPart = Exclude<Part, "unknown">;

/** Bits 2..1 of a memory BAR: its width. */
const PCI_BAR_TYPE = 0x6;
const PCI_BAR_64 = 0x4;

/** The registers of a GPU that has said which chip it is; no other way leads to a write. */
export interface Registers {
  /** @throws FenceError `EFENCE_UNREADABLE` for all ones, `0xBADFxxxx` and `0xBAD0xxxx`: these are no register values. */
  read(offset: number): number;
  /** What is read there, be it a value or an error. */
  readRaw(offset: number): number;
  write(offset: number, value: number): void;
}

/**
 * Runs `use` on the GPU's registers with memory decoding on, and puts decoding back as it was found, also when `use`
 * throws. `NV_PMC_BOOT_0` must be the part's before `use` begins, because nothing promises the same registers on another.
 * @throws FenceError `EFENCE_DECODE` when decoding cannot be had or put back, `EFENCE_PART` for another chip,
 * `EFENCE_UNREADABLE` when config space or a register does not answer, and whatever `use` throws.
 */
export function withRegisters<T>(port: GpuPort, part: FencedPart, use: (registers: Registers) => T): T {
  const found = port.readConfig(PCI_COMMAND, 2);
  if (found === 0xffff) throw new FenceError("EFENCE_UNREADABLE", "config space does not answer (all ones)");
  let result: T;
  try {
    decodeMemory(port, found);
    result = use(identified(port, part));
  } catch (error) {
    putBack(port, found);
    throw error;
  }
  putBack(port, found);
  if (((port.readConfig(PCI_COMMAND, 2) ^ found) & PCI_COMMAND_MEMORY) !== 0) {
    throw new FenceError("EFENCE_DECODE", "memory decoding could not be put back as it was found");
  }
  return result;
}

function decodeMemory(port: GpuPort, found: number): void {
  if (!hasAddress(port)) {
    throw new FenceError("EFENCE_DECODE", "BAR0 has no address: config space was not restored after a reset");
  }
  if ((found & PCI_COMMAND_MEMORY) !== 0) return;
  port.writeConfig(PCI_COMMAND, 2, found | PCI_COMMAND_MEMORY);
  if ((port.readConfig(PCI_COMMAND, 2) & PCI_COMMAND_MEMORY) === 0) {
    throw new FenceError("EFENCE_DECODE", "memory decoding cannot be switched on");
  }
}

/** Whether BAR0 has an address other than 0, which is what a reset leaves. */
function hasAddress(port: GpuPort): boolean {
  const bar0 = port.readConfig(PCI_BAR0, 4);
  const wide = (bar0 & PCI_BAR_TYPE) === PCI_BAR_64;
  return bar0 >>> 4 !== 0 || (wide && port.readConfig(PCI_BAR0 + 4, 4) !== 0);
}

function putBack(port: GpuPort, found: number): void {
  if ((found & PCI_COMMAND_MEMORY) === 0) port.writeConfig(PCI_COMMAND, 2, found);
}

function identified(port: GpuPort, part: FencedPart): Registers {
  const registers: Registers = {
    read: (offset) => readRegister(port, offset),
    readRaw: (offset) => port.readBar0(offset) >>> 0,
    write: (offset, value) => port.writeBar0(offset, value >>> 0),
  };
  const boot0 = registers.read(NV_PMC_BOOT_0);
  const expected = PART_FACTS[part].boot0;
  if (boot0 === expected) return registers;
  throw new FenceError(
    "EFENCE_PART",
    `NV_PMC_BOOT_0 reads ${hex32(boot0)}, a ${part} reads ${hex32(expected)}: not written to`,
  );
}

function readRegister(port: GpuPort, offset: number): number {
  const value = port.readBar0(offset) >>> 0;
  if (isReadable(value)) return value;
  throw new FenceError("EFENCE_UNREADABLE", `register ${hex32(offset)} is unreadable: it answers ${hex32(value)}`);
}
