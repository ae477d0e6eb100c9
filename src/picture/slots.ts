/** Left and right of a GPU's box in its slot, in pixels: where areas and outlines run. */
export const SLOT_MARGIN = 14;

/** Columns that the name of an NVSwitch may take. */
export const BAR_NAME = 32;

/** The room of one GPU and all that is above and below it, in pixels, and the index of its socket. */
export interface Slot {
  left: number;
  right: number;
  socket: number;
}
