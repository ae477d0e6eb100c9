import { readdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { DeviceFile } from "./device_files.js";
import { printable } from "./printable.js";

/** A process that has a device open. */
export interface Holder {
  pid: number;
  /** As in `/proc/PID/comm`. */
  name: string;
  device: DeviceFile;
}

/**
 * The processes, this one not among them, that have one of the devices open; each process once per device. Of processes
 * that this one may not look into nothing is known, so ask as root.
 */
export function holdersOf(devices: readonly DeviceFile[], root = "/"): Holder[] {
  if (devices.length === 0) return [];
  const wanted = new Map(devices.map((device) => [`${device.kind} ${device.numbers}`, device]));
  const proc = join(root, "proc");
  const processes = namesIn(proc).filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid);
  return processes.flatMap((pid) => {
    const folder = join(proc, pid, "fd");
    const open = namesIn(folder).flatMap((fd) => wanted.get(deviceBehind(join(folder, fd)) ?? "") ?? []);
    const name = open.length === 0 ? "" : nameOf(join(proc, pid, "comm"));
    return [...new Set(open)].map((device) => ({ pid: Number(pid), name, device }));
  });
}

function namesIn(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    // The process has ended, or is not ours to look into.
    return [];
  }
}

/** Kind and numbers of the device that a descriptor is open on. */
function deviceBehind(path: string): string | undefined {
  try {
    // What is open on something else is told by its link, which takes no look at a file system that may not answer.
    if (!readlinkSync(path).includes("/dev/")) return undefined;
    const { rdev, mode } = statSync(path, { bigint: true });
    const kind = FILE_KINDS.get(mode & S_IFMT);
    return kind === undefined ? undefined : `${kind} ${deviceNumbers(rdev)}`;
  } catch {
    return undefined;
  }
}

const S_IFMT = 0o170000n;
const FILE_KINDS: ReadonlyMap<bigint, DeviceFile["kind"]> = new Map([
  [0o020000n, "character"],
  [0o060000n, "block"],
]);

/** Major and minor of a `dev_t` (glibc's gnu_dev_major, gnu_dev_minor). */
function deviceNumbers(device: bigint): string {
  const major = ((device >> 8n) & 0xfffn) | ((device >> 32n) & ~0xfffn);
  const minor = (device & 0xffn) | ((device >> 12n) & ~0xffn);
  return `${major}:${minor}`;
}

function nameOf(path: string): string {
  try {
    return printable(readFileSync(path, "utf8").trim());
  } catch {
    return "?";
  }
}
