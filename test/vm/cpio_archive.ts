import { closeSync, lstatSync, openSync, readdirSync, readFileSync, readlinkSync, statSync, writeSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

const TRAILER = "TRAILER!!!";
const FOLDER = 0o040755;
const LINK = 0o120777;
const FILE = 0o100000;

/**
 * Writes a cpio archive of the kind that Linux unpacks into its first root file system ("newc", see the kernel's
 * Documentation/driver-api/early-userspace/buffer-format.rst). Archives may be put one behind the other, and a later
 * file replaces an earlier one of the same name. Everything belongs to root.
 */
export class CpioArchive {
  readonly #fd: number;
  readonly #folders = new Set<string>();
  #inode = 1;

  /** Creates the file. */
  constructor(path: string) {
    this.#fd = openSync(path, "w");
  }

  /** A file with these contents; folders above it are made as needed. `name` is absolute, here and below. */
  file(name: string, contents: Uint8Array | string, executable = false): void {
    this.#makeParent(name);
    this.#entry(
      name,
      FILE | (executable ? 0o755 : 0o644),
      typeof contents === "string"
        ? Buffer.from(contents)
        : Buffer.from(contents.buffer, contents.byteOffset, contents.byteLength),
    );
  }

  folder(name: string): void {
    const path = normalize(name);
    if (path === "/" || this.#folders.has(path)) return;
    this.#makeParent(path);
    this.#folders.add(path);
    this.#entry(path, FOLDER, Buffer.alloc(0));
  }

  link(name: string, target: string): void {
    this.#makeParent(name);
    this.#entry(name, LINK, Buffer.from(target));
  }

  /** Copies a file, a folder with all that is in it, or what a link at `source` points to. */
  copy(name: string, source: string): void {
    const status = statSync(source);
    if (status.isDirectory()) {
      this.folder(name);
      for (const entry of readdirSync(source)) this.entry(join(name, entry), join(source, entry));
    } else {
      this.file(name, readFileSync(source), (status.mode & 0o111) !== 0);
    }
  }

  /** As `copy`, but a link stays a link. */
  entry(name: string, source: string): void {
    if (lstatSync(source).isSymbolicLink()) this.link(name, readlinkSync(source));
    else this.copy(name, source);
  }

  /** Writes the end; the archive takes no more. */
  close(): void {
    this.#entry(`/${TRAILER}`, 0, Buffer.alloc(0));
    closeSync(this.#fd);
  }

  #makeParent(name: string): void {
    this.folder(dirname(normalize(name)));
  }

  #entry(name: string, mode: number, contents: Buffer): void {
    const path = Buffer.from(`${normalize(name).slice(1)}\0`);
    const fields = [this.#inode++, mode, 0, 0, 1, 0, contents.length, 0, 0, 0, 0, path.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    this.#write(Buffer.concat([Buffer.from(header), path]));
    this.#write(contents);
  }

  /** Names and contents end at multiples of four bytes. */
  #write(data: Buffer): void {
    const padding = Buffer.alloc(-data.length & 3);
    for (const part of [data, padding]) {
      for (let done = 0; done < part.length; ) done += writeSync(this.#fd, part, done);
    }
  }
}
