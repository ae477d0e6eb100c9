import { readFileSync } from "node:fs";

const CAP_IPC_LOCK = 1n << 14n;

/**
 * How many bytes this process may pin for DMA (RLIMIT_MEMLOCK); undefined when there is no limit, because of CAP_IPC_LOCK
 * for example. What a kernel does not tell counts as no limit: it says so itself when memory is pinned.
 */
export function memlockLimit(): bigint | undefined {
  const capabilities = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1];
  if (capabilities !== undefined && (BigInt(`0x${capabilities}`) & CAP_IPC_LOCK) !== 0n) return undefined;
  return memlockOf(readFileSync("/proc/self/limits", "utf8"));
}

/** The soft limit in the text of `/proc/PID/limits` (proc(5)). */
export function memlockOf(limits: string): bigint | undefined {
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1];
  return soft !== undefined && /^[0-9]+$/.test(soft) ? BigInt(soft) : undefined;
}

/** Why memory could not be pinned, in words, and what to do about it. */
export function outOfMemlock(size: bigint, pinned: bigint): string {
  const limit = memlockLimit();
  const needed = `${size} bytes of the client's memory cannot be pinned, beside ${pinned} that are`;
  if (limit === undefined || pinned + size <= limit) return `${needed}: the kernel is out of memory`;
  const how = "set LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited, or run with CAP_IPC_LOCK";
  return `${needed}: RLIMIT_MEMLOCK allows ${limit} in all; ${how}`;
}
