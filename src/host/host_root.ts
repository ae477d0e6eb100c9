import { closeSync, constants, lstatSync, openSync, readdirSync, readlinkSync, readSync, realpathSync } from "node:fs";
import { posix } from "node:path";
import { errnoInWords, errnoOf, HostError } from "./error.js";
import { printable } from "./printable.js";

/** Why something could not be read, as the operating system says it. */
export class Failure {
  constructor(readonly errno: string) {}
}

/** The most bytes read of any one file: more than a kernel command line or a page of sysfs can have. */
export const FILE_LIMIT = 1 << 16;

/** As many links as the kernel itself follows in one path. */
const MAX_LINKS = 40;

// Without O_NONBLOCK, opening a FIFO that lies where a file should be would wait for ever.
const READ_ONLY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

/**
 * A directory that stands for `/` of a Linux host: the real one, or a copy or imitation that nobody vouches for. Paths are
 * given without the leading slash; links are followed as if the directory were the root, so never out of it. Nothing is
 * ever opened for writing, and nothing here throws: what cannot be read is a {@link Failure}.
 */
export class HostRoot {
  /** Whether this is the running host. */
  readonly live: boolean;
  /** The real path of the directory, empty for `/`. */
  private readonly prefix: string;
  private readonly buffer = Buffer.allocUnsafe(FILE_LIMIT);
  /** Paths known to be directories reached through no link. */
  private readonly folders = new Set<string>();

  /** @throws HostError `EHOST` when there is no such directory. */
  constructor(directory: string) {
    const refuse = (errno: string) =>
      new HostError("EHOST", `cannot read ${printable(directory)} as a host's root: ${errnoInWords(errno)}`, errno);
    let real: string;
    try {
      real = realpathSync(directory);
      if (!lstatSync(real).isDirectory()) throw refuse("ENOTDIR");
    } catch (error) {
      throw error instanceof HostError ? error : refuse(errnoOf(error));
    }
    this.live = real === "/";
    this.prefix = this.live ? "" : real;
  }

  /** The path by which everybody else opens a resolved one. */
  outside(resolved: string): string {
    return `${this.prefix}/${resolved}`;
  }

  /** The same place by a path that goes through no link and no `..`, or why there is no such place. */
  resolve(path: string): string | Failure {
    // The running kernel's sysfs leads nowhere but into itself.
    if (this.live && path.startsWith("sys/")) return posix.normalize(path);
    if (this.isFolderIn(path)) return path;
    const done: string[] = [];
    const rest = path.split("/").reverse();
    let links = 0;
    for (let part = rest.pop(); part !== undefined; part = rest.pop()) {
      if (part === "" || part === ".") continue;
      if (part === "..") {
        done.pop();
        continue;
      }
      done.push(part);
      const place = done.join("/");
      if (this.folders.has(place)) continue;
      const kind = this.kindOf(place);
      if (kind instanceof Failure) return kind;
      if (kind === "folder") this.folders.add(place);
      if (kind !== "link") continue;
      const target = this.link(place);
      if (target instanceof Failure) return target;
      if (++links > MAX_LINKS) return new Failure("ELOOP");
      if (target.startsWith("/")) done.length = 0;
      else done.pop();
      rest.push(...this.withoutPrefix(target).split("/").reverse());
    }
    return done.join("/");
  }

  /** Names in a directory, in no particular order. */
  list(path: string): string[] | Failure {
    const folder = this.resolve(path);
    if (folder instanceof Failure) return folder;
    try {
      return readdirSync(this.outside(folder));
    } catch (error) {
      return new Failure(errnoOf(error));
    }
  }

  /** The text of a small file, links on the way followed, without the spaces and line ends around it. */
  text(path: string): string | Failure {
    const resolved = this.resolve(path);
    if (resolved instanceof Failure) return resolved;
    const bytes = this.read(resolved, FILE_LIMIT);
    return bytes instanceof Failure ? bytes : bytes.toString("utf8").trim();
  }

  /** Whether there is anything by this path. */
  has(path: string): boolean {
    return !(this.resolve(path) instanceof Failure);
  }

  /**
   * The first bytes of a file, at most `limit` (up to {@link FILE_LIMIT}), in one read; valid until the next read. The
   * path must be resolved but for its last name, which must be no link.
   */
  read(resolved: string, limit: number): Buffer | Failure {
    let file: number;
    try {
      file = openSync(this.outside(resolved), READ_ONLY);
    } catch (error) {
      return new Failure(errnoOf(error));
    }
    try {
      return this.buffer.subarray(0, readSync(file, this.buffer, 0, limit, null));
    } catch (error) {
      return new Failure(errnoOf(error));
    } finally {
      closeSync(file);
    }
  }

  /** What a link says, not followed. The path must be resolved but for its last name. */
  link(resolved: string): string | Failure {
    try {
      return readlinkSync(this.outside(resolved));
    } catch (error) {
      return new Failure(errnoOf(error));
    }
  }

  /** The place that an entry of a resolved folder is or, as a link, leads to. */
  follow(folder: string, name: string): string | Failure {
    const entry = `${folder}/${name}`;
    const target = this.link(entry);
    if (target instanceof Failure) return target.errno === "EINVAL" ? this.resolve(entry) : target;
    return this.resolve(target.startsWith("/") ? this.withoutPrefix(target) : posix.join(folder, target));
  }

  /** Whether the path is a directory right in one that is known to be reached through no link. */
  private isFolderIn(path: string): boolean {
    const slash = path.lastIndexOf("/");
    const name = path.slice(slash + 1);
    if (name === "" || name === "." || name === ".." || !this.folders.has(path.slice(0, slash))) return false;
    if (this.kindOf(path) !== "folder") return false;
    this.folders.add(path);
    return true;
  }

  private kindOf(place: string): "folder" | "link" | "other" | Failure {
    try {
      const stat = lstatSync(this.outside(place), { throwIfNoEntry: false });
      if (stat === undefined) return new Failure("ENOENT");
      return stat.isSymbolicLink() ? "link" : stat.isDirectory() ? "folder" : "other";
    } catch (error) {
      return new Failure(errnoOf(error));
    }
  }

  /** A link made with the copy's own place on this disk in it still means a place in the copy. */
  private withoutPrefix(target: string): string {
    return this.prefix !== "" && target.startsWith(`${this.prefix}/`) ? target.slice(this.prefix.length) : target;
  }
}
