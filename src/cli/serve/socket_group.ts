import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { printable } from "../../host/printable.js";
import { UsageError } from "../failure.js";

/** A group of users, by its number and as it was named. */
export interface SocketGroup {
  gid: number;
  name: string;
}

/** The number that means "leave it" in chown(2). */
const NO_GROUP = 2 ** 32 - 1;

/**
 * The group that a name or a number means, by the system's own databases.
 * @throws UsageError when there is none, or this process is not in it and may not hand files to it
 */
export function findSocketGroup(word: string): SocketGroup {
  const gid = /^\d+$/.test(word) ? Number(word) : (inFile(word) ?? inDatabases(word));
  if (gid === undefined || gid >= NO_GROUP) {
    throw new UsageError(`--socket-group ${printable(word)}: there is no such group on this host`);
  }
  const mine = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (process.geteuid?.() !== 0 && !mine.includes(gid)) {
    throw new UsageError(`--socket-group ${printable(word)}: you are not in this group; name one of yours (see id)`);
  }
  return { gid, name: word };
}

function inFile(name: string): number | undefined {
  try {
    return gidOf(name, readFileSync("/etc/group", "utf8"));
  } catch {
    return undefined;
  }
}

/** Groups of a directory service are known to the C library only; getent(1) asks it. */
function inDatabases(name: string): number | undefined {
  if (name.startsWith("-") || name === "") return undefined;
  const { stdout, status } = spawnSync("getent", ["group", name], { encoding: "utf8", timeout: 5000 });
  return status === 0 ? gidOf(name, stdout) : undefined;
}

/** From lines of `name:password:gid:members` (group(5)). */
function gidOf(name: string, text: string): number | undefined {
  for (const line of text.split("\n")) {
    const [found, , gid] = line.split(":");
    if (found === name && gid !== undefined && /^\d+$/.test(gid)) return Number(gid);
  }
  return undefined;
}
