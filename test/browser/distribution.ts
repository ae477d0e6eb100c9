/** The median of some times, and all there is to say of them; milliseconds. */
export function distribution(times: readonly number[]): { least: number; median: number; words: string } {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))] ?? Number.NaN;
  const [least, median, most] = [at(0), at(0.5), at(1)];
  const words = `${times.length} times, ${[least, median, at(0.9), most].map((each) => Math.round(each)).join(" / ")} ms (least / median / 90 % / most)`;
  return { least, median, words };
}
