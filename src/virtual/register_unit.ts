/** A unit of the chip with 32-bit registers in BAR0. Offsets are multiples of 4 from the beginning of BAR0. */
export interface RegisterUnit {
  /** The 4 KiB pages of BAR0 in which it has registers, by number. */
  readonly pages: readonly number[];
  /** An unsigned 32-bit value; `undefined` where the unit has no register. Reading changes nothing. */
  read(offset: number): number | undefined;
  /** Writes an unsigned 32-bit value. @returns false where the unit has no register */
  write(offset: number, value: number): boolean;
  /** What a reset of the function does: everything back to its initial value. */
  reset(): void;
}
