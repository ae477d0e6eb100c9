import { chmodSync, chownSync, lstatSync, mkdirSync, rmdirSync, type Stats, statSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { errnoInWords, errnoOf } from "../../host/error.js";
import { printable } from "../../host/printable.js";
import { UsageError } from "../failure.js";
import { syncDirectory } from "../replace_file.js";
import type { SocketGroup } from "./socket_group.js";

const WRITABLE_BY_OTHERS = 0o022;
const GROUP_CAN_ENTER = 0o010;

/** A directory that is ours alone to write to: nobody else can put a socket, a ledger or a link in place of ours. */
export class PrivateDirectory {
  /** The outermost directory that was made on the way, if any was. */
  readonly #made: string | undefined;

  /**
   * Makes it, with mode 0700, or 0750 for a group that is to reach what is in it; one that is there stays as it is.
   * @param option the option that names it, for messages
   * @throws UsageError when it cannot be made, belongs to somebody else, can be written by others, or cannot be entered
   *   by the group
   */
  constructor(
    readonly path: string,
    option: string,
    group?: SocketGroup,
  ) {
    checkName(path, option);
    if (look(path, option) === undefined) this.#made = make(path, option, group);
    checkOwner(path, option, group);
  }

  /** Removes what was made and is empty. */
  removeIfMade(): void {
    if (this.#made === undefined) return;
    try {
      for (let path = this.path; ; path = dirname(path)) {
        rmdirSync(path);
        if (path === this.#made) return;
      }
    } catch {
      // Somebody has put something into it, so it stays.
    }
  }
}

/**
 * The absolute path of a directory that was named on the command line.
 * @throws UsageError when it is empty or has characters that neither a terminal nor a domain's XML takes
 */
export function directoryPath(path: string, option: string): string {
  checkName(path, option);
  return resolve(path);
}

function checkName(path: string, option: string): void {
  if (path === "") throw new UsageError(`${option} needs the name of a directory`);
  if (printable(path) !== path || path.includes("\ufffd")) {
    throw new UsageError(`${option} ${printable(path)}: the name has control characters, or is no UTF-8`);
  }
}

function look(path: string, option: string): Stats | undefined {
  try {
    return lstatSync(path);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw new UsageError(`${option}: cannot use ${path}: ${errnoInWords(errnoOf(error))}; name another directory`);
  }
}

/** One level after the other: `mkdirSync` with `recursive` never ends where a file system makes no directories, as in /proc. */
function make(path: string, option: string, group?: SocketGroup): string | undefined {
  const missing: string[] = [];
  for (let at = path; look(at, option) === undefined; at = dirname(at)) missing.unshift(at);
  const made: string[] = [];
  for (const each of missing) {
    try {
      mkdirSync(each, { mode: 0o700 });
      made.push(each);
    } catch (error) {
      // Another server may have made what both need on the way; what both want to be theirs is decided by its lock.
      if (errnoOf(error) === "EEXIST") continue;
      removeAll(made);
      throw new UsageError(`${option}: cannot make ${path}: ${errnoInWords(errnoOf(error))}; name another directory`);
    }
  }
  try {
    for (const each of made) giveTo(each, group);
  } catch (error) {
    removeAll(made);
    throw new UsageError(`cannot give ${path} to group ${group?.name}: ${errnoInWords(errnoOf(error))}`);
  }
  for (const each of made) syncIfPossible(dirname(each));
  return made[0];
}

/** A ledger is on the disk only when the directories on the way to it are. */
function syncIfPossible(path: string): void {
  try {
    syncDirectory(path);
  } catch {
    // It may be entered and not read, or its file system has no disk. The ledger's own directory is synced or refused.
  }
}

/** The umask may have taken more away than others' rights. */
function giveTo(path: string, group?: SocketGroup): void {
  if (group !== undefined) chownSync(path, -1, group.gid);
  chmodSync(path, group === undefined ? 0o700 : 0o750);
}

function removeAll(made: readonly string[]): void {
  for (const each of made.toReversed()) rmdirSync(each);
}

function checkOwner(path: string, option: string, group?: SocketGroup): void {
  const link = lstatSync(path);
  const uid = process.geteuid?.() ?? 0;
  const refuse = (what: string) => new UsageError(`${option}: ${path} ${what}`);
  // A link of somebody else's could lead anywhere.
  if (link.uid !== uid && link.uid !== 0)
    throw refuse(`belongs to another user (uid ${link.uid}); name one of your own`);
  const stat = follow(path, option);
  if (!stat.isDirectory()) throw refuse("is no directory");
  if (stat.uid !== uid) throw refuse(`belongs to another user (uid ${stat.uid}); name one of your own`);
  if ((stat.mode & WRITABLE_BY_OTHERS) !== 0) {
    throw refuse(`can be written by others; chmod go-w it, or name a directory that is yours alone`);
  }
  const reaches = group === undefined || (stat.gid === group.gid && (stat.mode & GROUP_CAN_ENTER) !== 0);
  if (!reaches && (stat.mode & 0o001) === 0) {
    throw refuse(
      `cannot be entered by group ${group?.name}; chgrp and chmod 750 it, or name one that is not there yet`,
    );
  }
}

function follow(path: string, option: string): Stats {
  try {
    return statSync(path);
  } catch (error) {
    throw new UsageError(`${option}: cannot use ${path}: ${errnoInWords(errnoOf(error))}; name another directory`);
  }
}
