/** How long accesses took, in nanoseconds. */
export interface Latency {
  p50: number;
  p99: number;
  mean: number;
  max: number;
}

export function latencyText({ p50, p99, mean }: Latency): string {
  const micros = (time: number) => `${(time / 1000).toFixed(1).padStart(7)} µs`;
  return `p50 ${micros(p50)}  p99 ${micros(p99)}  mean ${micros(mean)}`;
}

/** Of an even number of values the greater one in the middle; 0 of none. */
export function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}
