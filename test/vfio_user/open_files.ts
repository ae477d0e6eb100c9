import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Where the descriptor leads, or nothing when it was closed meanwhile (as the one that lists the folder is). */
function targetOf(descriptor: string): string | undefined {
  try {
    return readlinkSync(`/proc/self/fd/${descriptor}`);
  } catch {
    return undefined;
  }
}

/**
 * How many descriptors this process has open, and how many shared files it has mapped. The TypeScript loader's are
 * left out: it writes its cache from a thread of its own, at moments that no test can wait for.
 */
export function openFiles(): { descriptors: number; mappings: number } {
  const targets = readdirSync("/proc/self/fd").map(targetOf);
  const mappings = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.includes("memfd:"));
  return {
    descriptors: targets.filter((target) => target !== undefined && !target.includes("/tsx-")).length,
    mappings: mappings.length,
  };
}
