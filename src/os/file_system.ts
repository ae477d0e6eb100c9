import { readFileSync } from "node:fs";

/**
 * The type of the file system on a device, as this process has it mounted; undefined for one that it has not.
 * Asks the kernel's list and not the file system, which might never answer (FUSE).
 * @param device `st_dev` of a file on it
 */
export function fileSystemType(device: bigint): string | undefined {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
    // ID, parent, major:minor, root, mount point, options, any number of tags, "-", type, ... (proc(5))
    const [fixed, rest] = line.split(" - ");
    if (fixed?.split(" ")[2] === `${major}:${minor}`) return rest?.split(" ")[0];
  }
  return undefined;
}
