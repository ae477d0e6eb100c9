import type { Part } from "../machine/machine.js";
import { isReadable } from "../machine/part.js";
import { InterruptRegisters } from "./interrupt_registers.js";
import { type LinkRegisters, linkRegisters, type Recorded } from "./link_registers.js";
import { type Aperture, MemoryWindow } from "./memory_window.js";
import { type Peers, PeerWindow } from "./peer_window.js";
import { PRI_DECODE_ERROR } from "./pri_error.js";
import type { RegisterUnit } from "./register_unit.js";
import { NV_PTIMER_INTR_0, TimerRegisters } from "./timer_registers.js";
import type { VideoMemory } from "./video_memory.js";

/** Bytes of a GPU's register BAR. */
export const BAR0_SIZE = 0x1000000;

const PAGE = 0x1000;

/** A driver writes here, in the chip's mirror of config space, to get the next MSI (nouveau pci/gp100.c). */
const MSI_REARM = 0x88704;

/** What is broken about a virtual GPU: for tests, and for captures that recorded registers which do not answer. */
export interface RegisterFaults {
  /** BAR0 offset to the value that every read there gives, whatever the register holds. */
  readonly stuckReads: Map<number, number>;
  /** BAR0 offsets at which writes are lost. */
  readonly droppedWrites: Set<number>;
}

/** What else there is of the GPU that its registers reach. */
export interface Bar0Surroundings {
  readonly faults: RegisterFaults;
  readonly peers: Peers;
  /** The GPU's memory, when it has any. */
  memory(): VideoMemory | undefined;
  /** The interrupt line or the time until the alarm may have changed; `rearmed` when the driver wants the next MSI. */
  interruptsChanged(rearmed: boolean): void;
  /** An access to what is not modelled. */
  unmodelled(access: "read" | "write", offset: number): void;
}

/**
 * The registers of a GPU, and the two windows among them. The units are those of GV100's manuals, on every part whose
 * links are modelled; what none of them has reads as {@link PRI_DECODE_ERROR}.
 */
export class Bar0 {
  readonly #links: LinkRegisters;
  readonly #around: Bar0Surroundings;
  readonly #timer = new TimerRegisters();
  readonly #interrupts = new InterruptRegisters(() => this.#timer.isInterrupting);
  /** All but the links' registers; none of a part that nobody modelled. */
  readonly #units: readonly RegisterUnit[] = [];
  readonly #windows: readonly Aperture[] = [];
  /** For each 4 KiB page whether any unit has registers there: there are few, and a client may read megabytes at once. */
  readonly #pages: Uint8Array;

  constructor(part: Part, recorded: Recorded, around: Bar0Surroundings) {
    this.#links = linkRegisters(part, recorded);
    this.#around = around;
    if (part !== "unknown") {
      const memoryWindow = new MemoryWindow(() => around.memory());
      const peerWindow = new PeerWindow(around.peers);
      this.#windows = [memoryWindow, peerWindow];
      this.#units = [this.#interrupts, this.#timer, memoryWindow, peerWindow];
    }
    this.#pages = pagesWithRegisters(part, [this.#links, ...this.#units]);
  }

  /** Whether the chip's side of link n is in a state to train. */
  linkEnabled(link: number): boolean {
    return this.#links.enabled(link);
  }

  /** See {@link LinkRegisters}. */
  linkCut(link: number): boolean {
    return this.#links.cut(link);
  }

  /** See {@link LinkRegisters}. */
  get linkRegisters(): readonly number[] {
    return this.#links.contents;
  }

  /** Whether the GPU interrupts its host. */
  get interruptLine(): boolean {
    return this.#interrupts.line;
  }

  /** Milliseconds until the alarm changes {@link interruptLine}; undefined when it will not. */
  get untilAlarm(): number | undefined {
    return this.#interrupts.timerEnabled ? this.#timer.untilInterrupt : undefined;
  }

  /** Reads the 32-bit register at an offset, a multiple of 4 below {@link BAR0_SIZE}. */
  read(offset: number): number {
    const { stuckReads } = this.#around.faults;
    const stuck = stuckReads.size === 0 ? undefined : stuckReads.get(offset);
    if (stuck !== undefined) return stuck;
    const window = this.#windowAt(offset);
    if (window !== undefined) return readWord(window, offset);
    const value = this.#register(offset);
    if (value !== undefined) return value;
    this.#around.unmodelled("read", offset);
    return PRI_DECODE_ERROR;
  }

  /** Writes the 32-bit register at an offset, a multiple of 4 below {@link BAR0_SIZE}. */
  write(offset: number, value: number): void {
    const { faults } = this.#around;
    if (faults.droppedWrites.size > 0 && faults.droppedWrites.has(offset)) return;
    const window = this.#windowAt(offset);
    if (window !== undefined) writeWord(window, offset, value);
    else if (!this.#writeRegister(offset, value)) this.#around.unmodelled("write", offset);
  }

  /** Reads bytes anywhere, registers as the words they lie in, lowest first. An empty page is reported as one place. */
  readBytes(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const at = offset + done;
      const window = this.#windowAt(at);
      if (window !== undefined) {
        const length = Math.min(data.length - done, window.end - at);
        window.readMemory(at, data.subarray(done, done + length));
        done += length;
      } else if (this.#isEmpty(at)) {
        const length = Math.min(data.length - done, PAGE - (at % PAGE));
        this.#around.unmodelled("read", at & ~3);
        data.set(ERRORS.subarray(at & 3, (at & 3) + length), done);
        done += length;
      } else {
        const value = this.read(at & ~3);
        for (let byte = at & 3; byte < 4 && done < data.length; byte++) data[done++] = value >>> (8 * byte);
      }
    }
  }

  /** Writes bytes anywhere; a register of which only a part is written is treated as {@link #writePart} says. */
  writeBytes(offset: number, data: Uint8Array): void {
    for (let done = 0; done < data.length; ) {
      const at = offset + done;
      const window = this.#windowAt(at);
      if (window !== undefined) {
        const length = Math.min(data.length - done, window.end - at);
        window.writeMemory(at, data.subarray(done, done + length));
        done += length;
      } else if (this.#isEmpty(at)) {
        this.#around.unmodelled("write", at & ~3);
        done += PAGE - (at % PAGE);
      } else {
        let value = 0;
        let mask = 0;
        for (let byte = at & 3; byte < 4 && done < data.length; byte++) {
          value |= (data[done++] ?? 0) << (8 * byte);
          mask |= 0xff << (8 * byte);
        }
        this.#writePart(at & ~3, value >>> 0, mask >>> 0);
      }
    }
  }

  secondaryBusReset(): void {
    this.#links.reset();
    this.#resetUnits();
  }

  functionLevelReset(): void {
    this.#links.functionLevelReset();
    this.#resetUnits();
  }

  #resetUnits(): void {
    for (const unit of this.#units) unit.reset();
    this.#around.interruptsChanged(false);
  }

  /**
   * The registers are 32 bits wide: what a smaller write leaves out keeps what it reads as, or is written as 0 where
   * writing a 1 acts. A register that cannot be read is not written to, for nobody knows what the rest would have to be.
   */
  #writePart(offset: number, value: number, mask: number): void {
    if (mask === 0xffffffff) {
      this.write(offset, value);
      return;
    }
    const rest = offset === NV_PTIMER_INTR_0 ? 0 : (this.#register(offset) ?? 0);
    if (isReadable(rest)) this.write(offset, ((rest & ~mask) | value) >>> 0);
  }

  /** Whether the page has no registers; one that a fault gives a value counts as one. */
  #isEmpty(offset: number): boolean {
    return this.#pages[offset >>> 12] !== 1 && this.#around.faults.stuckReads.size === 0;
  }

  #register(offset: number): number | undefined {
    if (this.#pages[offset >>> 12] !== 1) return undefined;
    for (const unit of this.#units) {
      const value = unit.read(offset);
      if (value !== undefined) return value;
    }
    return offset === MSI_REARM ? 0 : this.#links.read(offset);
  }

  #writeRegister(offset: number, value: number): boolean {
    if (this.#pages[offset >>> 12] !== 1) return false;
    for (const unit of this.#units) {
      if (!unit.write(offset, value)) continue;
      this.#around.interruptsChanged(false);
      return true;
    }
    if (offset !== MSI_REARM) return this.#links.write(offset, value);
    this.#around.interruptsChanged(true);
    return true;
  }

  #windowAt(offset: number): Aperture | undefined {
    for (const window of this.#windows) if (offset >= window.start && offset < window.end) return window;
    return undefined;
  }
}

/** By part, for all GPUs of a part have the same. */
const knownPages = new Map<Part, Uint8Array>();

function pagesWithRegisters(part: Part, units: readonly RegisterUnit[]): Uint8Array {
  const known = knownPages.get(part);
  if (known !== undefined) return known;
  const pages = new Uint8Array(BAR0_SIZE / PAGE);
  for (const page of units.flatMap((unit) => unit.pages)) pages[page] = 1;
  if (part !== "unknown") pages[MSI_REARM >>> 12] = 1;
  knownPages.set(part, pages);
  return pages;
}

/** What a page without registers reads as, from any byte of a word on. */
const ERRORS = new Uint8Array(new Uint32Array(PAGE / 4 + 1).fill(PRI_DECODE_ERROR).buffer);

const word = new Uint8Array(4);
const wordView = new DataView(word.buffer);

function readWord(window: Aperture, offset: number): number {
  window.readMemory(offset, word);
  return wordView.getUint32(0, true);
}

function writeWord(window: Aperture, offset: number, value: number): void {
  wordView.setUint32(0, value, true);
  window.writeMemory(offset, word);
}
