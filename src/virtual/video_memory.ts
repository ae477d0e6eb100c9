import type { Steps } from "../vfio/steps.js";

/** What the hardware needs of a GPU's memory. Offsets and sizes are in bytes. */
export interface VideoMemory {
  readonly size: number;
  /** Fills `data` from `offset`. @throws when that is beyond the end */
  read(offset: number, data: Uint8Array): void;
  /** @throws when that is beyond the end */
  write(offset: number, data: Uint8Array): void;
  /** Makes all of it zeros, for whoever has it mapped too. */
  clear(): void;
  /** As {@link clear}, in turns short enough for others to be served in between. */
  clearSteps(): Steps;
}

/**
 * Reads through an aperture onto a memory. Where there is none, or beyond its end, each 32-bit word reads as `error`.
 * @param place where in the aperture the access begins, of which only the place within a word counts
 */
export function readThrough(
  memory: VideoMemory | undefined,
  offset: number,
  data: Uint8Array,
  place: number,
  error: number,
): void {
  const there = lengthWithin(memory, offset, data.length);
  if (memory !== undefined && there > 0) memory.read(offset, there === data.length ? data : data.subarray(0, there));
  for (let at = there; at < data.length; at++) data[at] = error >>> (8 * ((place + at) & 3));
}

/** Writes through an aperture onto a memory; what is not there is lost. */
export function writeThrough(memory: VideoMemory | undefined, offset: number, data: Uint8Array): void {
  const there = lengthWithin(memory, offset, data.length);
  if (memory !== undefined && there > 0) memory.write(offset, there === data.length ? data : data.subarray(0, there));
}

function lengthWithin(memory: VideoMemory | undefined, offset: number, length: number): number {
  return memory === undefined ? 0 : Math.max(0, Math.min(length, memory.size - offset));
}
