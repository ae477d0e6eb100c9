import { readdirSync, readFileSync } from "node:fs";

/** Bytes that a process has in memory, shared ones too. */
export function residentOf({ pid }: { pid?: number | undefined }): number {
  return statusField(`/proc/${pid}/status`, "VmRSS") * 1024;
}

/** What the living threads of a process have used of the CPUs. */
export interface CpuUse {
  /** Nanoseconds. */
  time: number;
  /** How often they slept and were woken. */
  wakeups: number;
}

/** By each thread's `schedstat`, for `/proc/PID/stat` counts only ticks of 10 ms. */
export function cpuUseOf({ pid }: { pid?: number | undefined }): CpuUse {
  const use: CpuUse = { time: 0, wakeups: 0 };
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const folder = `/proc/${pid}/task/${thread}`;
    use.time += Number(readFileSync(`${folder}/schedstat`, "utf8").split(" ")[0]);
    use.wakeups += statusField(`${folder}/status`, "voluntary_ctxt_switches");
  }
  return use;
}

function statusField(path: string, field: string): number {
  return Number(new RegExp(`^${field}:\\s*(\\d+)`, "m").exec(readFileSync(path, "utf8"))?.[1]);
}
