import { UsageError } from "../failure.js";

/** @throws UsageError for whoever may not reach the registers of functions */
export function requireRoot(what: string): void {
  if (process.geteuid?.() === 0) return;
  throw new UsageError(`${what} on a live host needs root: only root reaches the registers of its GPUs`);
}
