import { readdirSync, readFileSync } from "node:fs";

/** How many descriptors this process has open, and how many shared files it has mapped. */
export function openFiles(): { descriptors: number; mappings: number } {
  const mappings = readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.includes("memfd:"));
  return { descriptors: readdirSync("/proc/self/fd").length, mappings: mappings.length };
}
