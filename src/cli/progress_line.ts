import type { FenceEvent } from "../fence/progress.js";
import { paint } from "./output.js";

/** One line for one step at one GPU. */
export function progressLine({ gpu, step, detail }: FenceEvent): string {
  const mark = step === "done" ? paint("green", "✓") : step === "failed" ? paint("red", "✗") : paint("dim", "·");
  return `${mark} ${gpu.padEnd(5)} ${step}${detail === undefined ? "" : `: ${detail}`}`;
}
