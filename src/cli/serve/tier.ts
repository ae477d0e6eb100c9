import type { FunctionStatus, RegionStatus, ServingStatus } from "./messages.js";

const BARS = 6;

interface ToldOf {
  tier?: ServingStatus["tier"];
  functions: readonly Pick<FunctionStatus, "kind" | "socket" | "regions">[];
}

/** What whoever serves functions of a real host has to know of them, a line each; nothing of a virtual machine. */
export function tierNotes({ tier, functions }: ToldOf): string[] {
  if (tier === undefined) return [];
  const bars = countsOf(functions);
  const how = bars === "" ? "" : ` (BARs: ${bars})`;
  const gpus = functions.some(({ kind, socket }) => kind === "gpu" && socket !== null);
  return [
    tier === "mediated"
      ? `mediated: whoever runs a VM gets no file that is more than one BAR of its function${how}`
      : `--trust-vmm: whoever runs a VM gets the VFIO device itself and can reset it, so must be trusted; its guest need not be${how}`,
    ...(gpus
      ? ["a reset does not clear a real GPU's memory: have its driver clear it before another owner gets it"]
      : []),
  ];
}

/** `3 trapped, 2 sysfs file`. */
function countsOf(functions: ToldOf["functions"]): string {
  const counts = new Map<NonNullable<RegionStatus["access"]>, number>();
  for (const { regions } of functions) {
    for (const { index, access } of regions) {
      if (index < BARS && access !== undefined) counts.set(access, (counts.get(access) ?? 0) + 1);
    }
  }
  return [...counts].map(([access, count]) => `${count} ${access}`).join(", ");
}
