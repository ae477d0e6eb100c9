import { dirname } from "node:path";
import type { FileCall } from "./file_calls.js";

/** Pieces that a write reaches the disk in, or does not. Disks have smaller ones; any number of them shows the same. */
const PIECES = 5;

/** A change of files that a program has had made. */
export type Operation =
  | { kind: "open"; fd: number; path: string; truncate: boolean }
  | { kind: "write"; fd: number; data: Buffer; at: number }
  | { kind: "sync"; fd: number }
  | { kind: "close"; fd: number }
  | { kind: "rename"; from: string; to: string }
  | { kind: "unlink"; path: string }
  | { kind: "mkdir"; path: string };

/** What a disk has: files by path, with their content, and directories. */
export type DiskState = ReadonlyMap<string, Buffer | "directory">;

/** Calls that change nothing that a disk could lose. */
const HARMLESS = /^(stat|lstat|fstat|realpath|read|readFile|readdir|fchmod|chmod|fchown|chown|exists|access)Sync$/;

/**
 * The operation that a call was.
 * @throws Error for a call that this knows nothing of: whoever writes in a new way has to say here what it means
 */
export function operationOf({ name, args }: FileCall, result: unknown): Operation | undefined {
  const [first, second] = args;
  switch (name) {
    case "openSync":
      return { kind: "open", fd: Number(result), path: String(first), truncate: /^w/.test(String(second)) };
    case "writeSync": {
      const [, data, from, , at] = args as [number, Uint8Array, number, number, number];
      return { kind: "write", fd: Number(first), data: Buffer.from(data.subarray(from, from + Number(result))), at };
    }
    case "fsyncSync":
      return { kind: "sync", fd: Number(first) };
    case "closeSync":
      return { kind: "close", fd: Number(first) };
    case "renameSync":
      return { kind: "rename", from: String(first), to: String(second) };
    case "unlinkSync":
      return { kind: "unlink", path: String(first) };
    case "mkdirSync":
      return { kind: "mkdir", path: String(first) };
    default:
      if (!HARMLESS.test(name)) throw new Error(`fs.${name} is not modelled: extend test/ledger/disk_model.ts`);
      return undefined;
  }
}

/** A file whatever its names are: what of it is on the disk for certain, and what was written since. */
class File {
  /** Contents of which any mixture may be on the disk, the last being what a reader sees. */
  #versions: Buffer[];

  constructor(content: Buffer) {
    this.#versions = [content];
  }

  get seen(): Buffer {
    return this.#versions.at(-1) ?? Buffer.alloc(0);
  }

  write(data: Buffer, at: number): void {
    const size = Math.max(this.seen.length, at + data.length);
    const next = Buffer.concat([this.seen, Buffer.alloc(size - this.seen.length)]);
    data.copy(next, at);
    this.#versions.push(next);
  }

  truncate(): void {
    if (this.seen.length > 0) this.#versions.push(Buffer.alloc(0));
  }

  sync(): void {
    this.#versions = [this.seen];
  }

  /** Each piece as in one of the versions or never written, and any of their lengths or less. */
  contents(): Buffer[] {
    if (this.#versions.length === 1) return this.#versions;
    const most = Math.max(...this.#versions.map(({ length }) => length));
    const piece = Math.ceil(most / PIECES) || 1;
    const zeros = Buffer.alloc(most);
    const full = [...this.#versions, zeros].map((version) => Buffer.concat([version, zeros]).subarray(0, most));
    let mixtures = [Buffer.alloc(0)];
    for (let at = 0; at < most; at += piece) {
      const choices = unique(full.map((version) => version.subarray(at, at + piece)));
      mixtures = mixtures.flatMap((mixture) => choices.map((choice) => Buffer.concat([mixture, choice])));
    }
    const lengths = new Set(this.#versions.map(({ length }) => length));
    for (let length = 0; length < most; length += piece) lengths.add(length);
    return unique(mixtures.flatMap((mixture) => [...lengths].map((length) => mixture.subarray(0, length))));
  }
}

function unique(buffers: readonly Buffer[]): Buffer[] {
  return [...new Map(buffers.map((buffer) => [buffer.toString("latin1"), buffer])).values()];
}

type Entry = File | "directory" | undefined;

/**
 * A disk behind a cache, as POSIX lets it be: what was not synced is there after a power loss or is not, each piece of a
 * file and each name of a directory for itself, in whatever order it was written. File systems are kinder than that.
 */
export class Disk {
  /** What a name may lead to on the disk, the last being what it leads to now. */
  readonly #names = new Map<string, Entry[]>();
  readonly #open = new Map<number, string | File>();

  constructor(state: DiskState) {
    for (const [path, content] of state) {
      this.#names.set(path, [content === "directory" ? content : new File(content)]);
    }
  }

  do(operation: Operation): void {
    if (operation.kind === "open") this.#openFile(operation);
    else if (operation.kind === "write") this.#file(operation.fd)?.write(operation.data, operation.at);
    else if (operation.kind === "sync") this.#sync(operation.fd);
    else if (operation.kind === "close") this.#open.delete(operation.fd);
    else if (operation.kind === "mkdir") this.#point(operation.path, "directory");
    else if (operation.kind === "unlink") this.#point(operation.path, undefined);
    else {
      this.#point(operation.to, this.#now(operation.from));
      this.#point(operation.from, undefined);
    }
  }

  /** All that may be on the disk when the power fails now. */
  states(): DiskState[] {
    const names = product(
      [...this.#names].map(([path, entries]) => [...new Set(entries)].map((entry) => [path, entry] as const)),
    );
    return names.flatMap((chosen) => {
      const files = [...new Set(chosen.map(([, entry]) => entry))].filter((entry) => entry instanceof File);
      return product(files.map((file) => file.contents().map((content) => [file, content] as const))).map((contents) =>
        reachable(chosen, new Map(contents)),
      );
    });
  }

  #openFile({ fd, path, truncate }: { fd: number; path: string; truncate: boolean }): void {
    const now = this.#now(path);
    if (now === "directory") {
      this.#open.set(fd, path);
      return;
    }
    const file = now ?? new File(Buffer.alloc(0));
    if (now === undefined) this.#point(path, file);
    if (truncate) file.truncate();
    this.#open.set(fd, file);
  }

  #file(fd: number): File | undefined {
    const open = this.#open.get(fd);
    return open instanceof File ? open : undefined;
  }

  #sync(fd: number): void {
    const open = this.#open.get(fd);
    if (open instanceof File) open.sync();
    for (const [path, entries] of this.#names) {
      if (dirname(path) === open) this.#names.set(path, entries.slice(-1));
    }
  }

  #now(path: string): Entry {
    return this.#names.get(path)?.at(-1);
  }

  #point(path: string, entry: Entry): void {
    this.#names.set(path, [...(this.#names.get(path) ?? [undefined]), entry]);
  }
}

/** A file in a directory that is not there is not there. */
function reachable(names: readonly (readonly [string, Entry])[], contents: ReadonlyMap<File, Buffer>): DiskState {
  const state = new Map<string, Buffer | "directory">();
  const known = new Map(names);
  const isThere = (path: string): boolean =>
    !known.has(path) || (known.get(path) !== undefined && isThere(dirname(path)));
  for (const [path, entry] of names) {
    if (entry === undefined || !isThere(dirname(path))) continue;
    state.set(path, entry === "directory" ? entry : (contents.get(entry) ?? Buffer.alloc(0)));
  }
  return state;
}

/** Every way to choose one of each. */
function product<T>(choices: readonly (readonly T[])[]): T[][] {
  return choices.reduce<T[][]>(
    (ways, options) => ways.flatMap((way) => options.map((option) => [...way, option])),
    [[]],
  );
}
