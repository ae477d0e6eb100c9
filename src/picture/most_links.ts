import type { Machine } from "../machine/machine.js";

/** More links than these are no picture any more. */
export const MOST_LINKS = 20_000;

/** How many ends of links the GPUs of a machine have. */
export function linkCount({ gpus }: Machine): number {
  return gpus.reduce((sum, { links }) => sum + links.length, 0);
}
