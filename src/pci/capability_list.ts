import { EXTENDED_MINIMUM, extendedLength, STANDARD_MINIMUM, standardLength } from "./capability_length.js";
import { capabilityName } from "./capability_name.js";
import { CONVENTIONAL_SIZE, EXTENDED_SIZE, HEADER_SIZE, hex, read8, read16, read32 } from "./config_space.js";
import type { Capability } from "./function.js";
import { layoutOf } from "./header.js";

/** Standard capability ids that come with an extended config space. */
const PCI_X = 0x07;
const EXPRESS = 0x10;

const HAS_CAPABILITIES = 0x10;
const ALL_ONES = 0xffffffff;

/**
 * The capabilities of both lists in list order, as `lspci` walks them: the extended list only where a PCI Express or
 * PCI-X capability says that there is one. A pointer into the header, into another capability, back to one already
 * seen or out of the space is damage and ends its list; what it points at is not a capability.
 * Time is bounded by the size of the space, whatever is in it.
 * @param damage takes what is wrong with the lists, in words, with byte offsets
 * @throws ConfigSpaceError when there are fewer than 64 bytes
 */
export function readCapabilities(config: Uint8Array, damage: string[]): Capability[] {
  const layout = layoutOf(read8(config, 0x0e) & 0x7f);
  if (layout === undefined || !(read16(config, 0x06) & HAS_CAPABILITIES)) return [];
  const walk = new CapabilityWalk(config, damage);
  walk.standard(layout.capabilityPointer, layout.end);
  if (walk.capabilities.some(({ id }) => id === PCI_X || id === EXPRESS)) walk.extended();
  return walk.capabilities;
}

class CapabilityWalk {
  readonly capabilities: Capability[] = [];
  /** For each 32-bit word, the offset of the capability it belongs to; 0 for none. */
  readonly #owner: Uint16Array;

  constructor(
    private readonly config: Uint8Array,
    private readonly damage: string[],
  ) {
    this.#owner = new Uint16Array(Math.min(config.length, EXTENDED_SIZE) >> 2);
  }

  /** @param from the register that points at the first capability */
  standard(from: number, headerEnd: number): void {
    const end = Math.min(this.config.length, CONVENTIONAL_SIZE);
    let pointer = from;
    for (;;) {
      const offset = this.#aligned(pointer, read8(this.config, pointer));
      if (offset === 0 || !this.#mayFollow(pointer, offset, headerEnd, end, STANDARD_MINIMUM)) return;
      const id = read8(this.config, offset);
      if (id === 0xff) {
        this.damage.push(`capability list is broken: nothing answers at ${hex(offset)}, where ${hex(pointer)} points`);
        return;
      }
      if (!this.#add(offset, id, false, standardLength(this.config, offset, end), end)) return;
      pointer = offset + 1;
    }
  }

  extended(): void {
    const end = Math.min(this.config.length, EXTENDED_SIZE);
    let pointer = CONVENTIONAL_SIZE;
    let offset = CONVENTIONAL_SIZE;
    // Less is no damage: the system may reach no more than the conventional space.
    if (offset + EXTENDED_MINIMUM > end) return;
    do {
      if (!this.#mayFollow(pointer, offset, CONVENTIONAL_SIZE, end, EXTENDED_MINIMUM)) return;
      const header = read32(this.config, offset);
      if (header === 0 || header === ALL_ONES) {
        this.#reportNoHeader(pointer, offset, header);
        return;
      }
      const id = header & 0xffff;
      if (!this.#add(offset, id, true, extendedLength(this.config, offset, end), end)) return;
      pointer = offset;
      offset = this.#aligned(pointer, header >>> 20);
    } while (offset !== 0);
  }

  #aligned(pointer: number, offset: number): number {
    if (offset & 3) {
      this.damage.push(`capability pointer at ${hex(pointer)} is ${hex(offset)}, not a multiple of 4; rounded down`);
    }
    return offset & ~3;
  }

  #mayFollow(pointer: number, offset: number, start: number, end: number, size: number): boolean {
    const problem = this.#problem(offset, start, end, size);
    if (problem === undefined) return true;
    this.damage.push(`capability pointer at ${hex(pointer)} is ${hex(offset)}, ${problem}; not followed`);
    return false;
  }

  #problem(offset: number, start: number, end: number, size: number): string | undefined {
    if (offset < start) return start === CONVENTIONAL_SIZE ? "outside the extended space" : "inside the header";
    if (offset + size > end) {
      // As much as Linux lets an ordinary user read; as root there may be nothing wrong.
      if (end === HEADER_SIZE) return "but only the first 64 bytes of config space could be read";
      return `beyond the end of the space at ${hex(end)}`;
    }
    const owner = this.#owner[offset >> 2];
    if (owner === offset) return "a capability already seen (the list loops)";
    if (owner) return `inside the capability at ${hex(owner)} (they overlap)`;
    return undefined;
  }

  /** A null header where the list begins says that it is empty; anywhere else nothing should point at one. */
  #reportNoHeader(pointer: number, offset: number, header: number): void {
    if (header === ALL_ONES) {
      this.damage.push(`extended capability list is broken: nothing answers at ${hex(offset)}`);
    } else if (offset !== CONVENTIONAL_SIZE) {
      this.damage.push(`extended capability at ${hex(pointer)} points to ${hex(offset)}, where there is none`);
    }
  }

  /** Lists a capability unless it runs past the end or into another one; false when it does. */
  #add(offset: number, id: number, extended: boolean, length: number, end: number): boolean {
    const name = capabilityName(id, extended);
    const last = offset + length;
    if (last > end) {
      this.damage.push(`${name} capability at ${hex(offset)} takes ${length} bytes, past the end at ${hex(end)}`);
      return false;
    }
    for (let word = offset >> 2; word << 2 < last; word++) {
      const owner = this.#owner[word];
      if (owner) {
        this.damage.push(`${name} capability at ${hex(offset)} runs into the one at ${hex(owner)} (they overlap)`);
        return false;
      }
      this.#owner[word] = offset;
    }
    this.capabilities.push({ offset, id, extended, name });
    return true;
  }
}
