import { isReadable } from "../machine/part.js";
import { VFIO_PCI_BAR0_REGION_INDEX } from "../vfio/constants.js";
import type { RegionArea, VfioDevice } from "../vfio/device.js";
import { CONFIG_MIRROR, reachesMirror } from "./config_mirror.js";
import type { GuardedWrite } from "./progress.js";
import type { GuardedRegister } from "./strategy.js";
import { littleEndian } from "./vfio_port.js";

const REGISTER_SIZE = 4;

/** The registers of BAR0 that cut links, as they stand between a client and its GPU: a client's writes only add bits. */
export class GuardedRegisters {
  readonly #registers: readonly GuardedRegister[];
  /** All of them lie in here. */
  readonly #begin: number;
  readonly #end: number;
  readonly #word = new Uint8Array(REGISTER_SIZE);

  /** @param registers at least one, ascending and apart from each other */
  constructor(registers: readonly GuardedRegister[]) {
    this.#registers = registers;
    this.#begin = registers[0]?.offset ?? 0;
    this.#end = (registers.at(-1)?.offset ?? 0) + REGISTER_SIZE;
  }

  /** Whether an access of so many bytes of BAR0 reaches one. Asked at every write of a client, so it costs next to nothing. */
  reachedBy(offset: number, length: number): boolean {
    if (offset >= this.#end || offset + length <= this.#begin) return false;
    for (const register of this.#registers) {
      if (offset < register.offset + REGISTER_SIZE && offset + length > register.offset) return true;
    }
    return false;
  }

  /**
   * Carries out a write of a client that reaches one or more: what lies between goes through, in order.
   * @param onWrite told of each of them, once
   */
  write(device: VfioDevice, offset: number, data: Uint8Array, onWrite: (write: GuardedWrite) => void): void {
    const end = offset + data.length;
    let at = offset;
    const pass = (to: number) => {
      if (to > at) device.write(VFIO_PCI_BAR0_REGION_INDEX, at, data.subarray(at - offset, to - offset));
    };
    for (const register of this.#registers) {
      const first = Math.max(register.offset, offset);
      const past = Math.min(register.offset + REGISTER_SIZE, end);
      if (past <= first) continue;
      pass(first);
      this.#word.fill(0);
      this.#word.set(data.subarray(first - offset, past - offset), first - register.offset);
      const asked = littleEndian(this.#word);
      onWrite({ offset: register.offset, asked, written: this.#add(device, register, asked) });
      at = past;
    }
    pass(end);
  }

  /** Adds the bits that may be added. @returns what was written, null when nothing was */
  #add(device: VfioDevice, { offset, addable, follows }: GuardedRegister, asked: number): number | null {
    const allowed = follows === undefined ? addable : addable & this.#read(device, follows);
    const now = this.#read(device, offset);
    const wanted = (now | (asked & allowed)) >>> 0;
    // What a register answers that cannot be reached is no value to add bits to.
    if (!isReadable(now) || wanted === now) return null;
    for (let i = 0; i < REGISTER_SIZE; i++) this.#word[i] = wanted >>> (8 * i);
    device.write(VFIO_PCI_BAR0_REGION_INDEX, offset, this.#word);
    return wanted;
  }

  #read(device: VfioDevice, offset: number): number {
    this.#word.fill(0xff);
    device.read(VFIO_PCI_BAR0_REGION_INDEX, offset, this.#word);
    return littleEndian(this.#word);
  }

  /**
   * The pieces of BAR0 without the pages that one of them, or the mirror of config space, lies in.
   * @param pageSize the host's, in bytes: no smaller piece can be kept from a mapping
   */
  mappable(areas: readonly RegionArea[], pageSize: number): RegionArea[] {
    let left = areas.filter((area) => area.size > 0).map(({ offset, size }) => ({ offset, size }));
    const kept = [...this.#registers.map(({ offset }) => ({ offset, size: REGISTER_SIZE })), CONFIG_MIRROR];
    for (const { offset, size } of kept) {
      const begin = Math.floor(offset / pageSize) * pageSize;
      const end = Math.ceil((offset + size) / pageSize) * pageSize;
      left = left.flatMap((area) => without(area, begin, end));
    }
    return left;
  }

  /** Whether a mapping of these bytes of BAR0 would have a page that one of them, or the mirror of config space, lies in. */
  shareAPage(offset: number, length: number, pageSize: number): boolean {
    const begin = Math.floor(offset / pageSize) * pageSize;
    const end = Math.ceil((offset + length) / pageSize) * pageSize;
    return this.reachedBy(begin, end - begin) || reachesMirror(begin, end - begin);
  }
}

/** What is left of an area on both sides of `begin` to `end`. */
function without(area: RegionArea, begin: number, end: number): RegionArea[] {
  const areaEnd = area.offset + area.size;
  if (end <= area.offset || begin >= areaEnd) return [area];
  const left: RegionArea[] = [];
  if (begin > area.offset) left.push({ offset: area.offset, size: begin - area.offset });
  if (end < areaEnd) left.push({ offset: end, size: areaEnd - end });
  return left;
}
