import { hex, read32 } from "./config_space.js";
import type { Bar } from "./function.js";

/** Which address spaces the function answers in (its command register). */
export interface Decoding {
  io: boolean;
  memory: boolean;
}

const IO_SPACE = 0x1;
const MEMORY_TYPE = 0x6;
const MEMORY_TYPE_64 = 0x4;
const MEMORY_TYPE_RESERVED = 0x6;
const PREFETCHABLE = 0x8;
/** A register that is not implemented reads 0; on a function that does not answer it reads all ones. */
const ALL_ONES = 0xffffffff;

/**
 * Reads `count` base address registers from an offset on. Registers that read 0 are taken as not implemented: config
 * space alone cannot tell them from unassigned 32-bit ones. Sizes are never known.
 * @param damage takes what is wrong with them, in words
 * @throws ConfigSpaceError when the registers are not there
 */
export function decodeBars(
  config: Uint8Array,
  offset: number,
  count: number,
  decoding: Decoding,
  damage: string[],
): Bar[] {
  const bars: Bar[] = [];
  for (let index = 0; index < count; index++) {
    const at = offset + 4 * index;
    const value = read32(config, at);
    if (value === 0 || value === ALL_ONES) continue;
    if (value & IO_SPACE) {
      bars.push(ioBar(index, value, decoding));
      continue;
    }
    const wide = (value & MEMORY_TYPE) === MEMORY_TYPE_64;
    if ((value & MEMORY_TYPE) === MEMORY_TYPE_RESERVED)
      damage.push(`BAR ${index} at ${hex(at)} has the reserved type 3`);
    if (wide && index === count - 1) {
      damage.push(`BAR ${index} at ${hex(at)} is 64 bits wide, but there is no register for its upper half`);
      break;
    }
    const high = wide ? read32(config, at + 4) : 0;
    bars.push(memoryBar(index, value, high, decoding));
    if (wide) index++;
  }
  return bars;
}

/**
 * Reads the expansion ROM's base address register; undefined when it is not implemented.
 * @throws ConfigSpaceError when the register is not there
 */
export function decodeRom(config: Uint8Array, offset: number, decoding: Decoding): Bar | undefined {
  const value = read32(config, offset);
  if (value === 0 || value === ALL_ONES) return undefined;
  const enabled = (value & 0x1) !== 0;
  return {
    index: "rom",
    kind: "memory",
    address: BigInt((value & 0xfffff800) >>> 0),
    width: 32,
    prefetchable: false,
    disabled: !enabled || !decoding.memory,
  };
}

function ioBar(index: number, value: number, decoding: Decoding): Bar {
  return {
    index,
    kind: "io",
    address: BigInt((value & 0xfffffffc) >>> 0),
    width: 32,
    prefetchable: false,
    disabled: !decoding.io,
  };
}

function memoryBar(index: number, value: number, high: number, decoding: Decoding): Bar {
  const low = BigInt((value & 0xfffffff0) >>> 0);
  return {
    index,
    kind: "memory",
    address: high === 0 ? low : (BigInt(high) << 32n) | low,
    width: (value & MEMORY_TYPE) === MEMORY_TYPE_64 ? 64 : 32,
    prefetchable: (value & PREFETCHABLE) !== 0,
    disabled: !decoding.memory,
  };
}
