import { randomBytes } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  fsyncSync,
  openSync,
  realpathSync,
  renameSync,
  type Stats,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { errnoOf } from "../host/error.js";

/** What follows a file's name in that of a temporary one, which stays behind when its writer was killed. */
export const TEMPORARY = "\\.[0-9a-f]{1,12}";

/**
 * Puts new content in a file's place: beside it first, synced, then renamed over it. Whoever reads it, and whoever finds it
 * after this process was killed, has the old content or the new, whole; so has the disk after a power loss. The file keeps
 * its owner and, unless one is given, its mode; a link stays and leads to the new content.
 * @throws what Node throws, with the file as it was and nothing beside it
 */
export function replaceFile(path: string, data: string | Uint8Array, mode?: number): void {
  const target = realPath(path);
  const old = statSync(target, { throwIfNoEntry: false });
  const temporary = `${target}.${randomBytes(6).toString("hex")}`;
  const fd = openSync(temporary, "wx", mode ?? 0o666);
  try {
    try {
      if (old !== undefined) keepOwner(fd, old);
      const exactly = mode ?? old?.mode;
      if (exactly !== undefined) fchmodSync(fd, exactly & 0o7777);
      writeAll(fd, Buffer.from(data));
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, target);
  } catch (error) {
    removeIfThere(temporary);
    throw error;
  }
}

/** What was renamed into a directory, or made there, is on the disk only when the directory is. */
export function syncDirectory(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** The kernel may take less than it is given, and does where a disk has room for some of it. */
function writeAll(fd: number, data: Uint8Array): void {
  for (let at = 0; at < data.length; ) {
    const taken = writeSync(fd, data, at, data.length - at, at);
    if (taken === 0) throw Object.assign(new Error("nothing more was written"), { code: "EIO" });
    at += taken;
  }
}

function keepOwner(fd: number, { uid, gid }: Stats): void {
  try {
    fchownSync(fd, uid, gid);
  } catch (error) {
    // Only root gives files away; who may replace somebody's file without being root has the new one himself.
    if (process.geteuid?.() === 0 || errnoOf(error) !== "EPERM") throw error;
  }
}

/** The end of links; the path itself where there is nothing yet. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function removeIfThere(path: string): void {
  try {
    unlinkSync(path);
  } catch {
    // The reason why it was to be removed is the one to be told.
  }
}
