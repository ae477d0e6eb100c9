import { shown } from "../../../picture/text.js";
import type { GpuPreview, Preview } from "./preview.js";

/** A disable mask as registers are written. */
export function maskText(mask: number): string {
  return `0x${mask.toString(16).padStart(8, "0")}`;
}

/** `1 link`, `2 links`. */
export function count(number: number, what: string): string {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

/** `link 3`, `links 0, 4`. */
export function linkList(numbers: readonly number[]): string {
  return `link${numbers.length === 1 ? "" : "s"} ${numbers.join(", ")}`;
}

/** What a plan comes to, for a sentence. */
export function verdict({ plan, cutLinks, refusals }: Pick<Preview, "plan" | "cutLinks" | "refusals">): string {
  const cuts = `cuts ${count(cutLinks, "link")}`;
  if (!plan.isolated) return `plan does not isolate, ${cuts}`;
  return refusals.length > 0 ? `plan isolates but is refused, ${cuts}` : `plan isolates, ${cuts}`;
}

/** What is different for a GPU, a line each; none where all stays as it is. */
export function changeLines({ newlyCut, restored, reset }: GpuPreview): string[] {
  return [
    ...(newlyCut.length > 0 ? [`newly cut: ${linkList(newlyCut)}`] : []),
    ...(restored.length > 0 ? [`comes up${reset ? "" : " with its next reset"}: ${linkList(restored)}`] : []),
    ...(reset ? ["is reset"] : []),
  ];
}

/** GPUs in a sentence: the first of many. */
export function nameList(names: readonly string[]): string {
  const first = names.slice(0, 12).map(shown).join(", ");
  return names.length > 12 ? `${first} and ${names.length - 12} more` : first;
}
