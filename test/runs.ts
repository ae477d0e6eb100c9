/** How many times as much `npm run check:long` has of what is generated. */
const FACTOR = Number(process.env.LINKFENCE_TEST_RUNS ?? 1);

/** How often a test tries something generated: as often as said every day, ten times as often in `npm run check:long`. */
export function runs(daily: number): number {
  return daily * FACTOR;
}
