import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { join } from "node:path";
import type { Random } from "../fuzz/random.js";
import type { SystemCalls } from "./system_calls.js";

/** A file's bytes, and those of them that are sure to survive a power loss. */
interface Content {
  bytes: Buffer;
  synced: Buffer | undefined;
}

/** What is in a directory, by name. */
type Entries = ReadonlyMap<string, Content>;

const real = { ...fs };
type Call = keyof typeof FAULTS;
/** What each call may fail with. */
const FAULTS = {
  openSync: ["ENOSPC", "EACCES", "EROFS", "EIO"],
  writeSync: ["ENOSPC", "EIO", "EDQUOT"],
  fsyncSync: ["EIO", "ENOSPC"],
  renameSync: ["ENOSPC", "EIO", "EROFS"],
  closeSync: ["EIO"],
  unlinkSync: ["EIO"],
} as const;

/**
 * The disk below a server's state directory: real files, by which the server's own code works, and what of them would be
 * left if the power failed at this moment. Calls fail, and take less than they are given, as seeded; all other files are as
 * ever.
 */
export class Disk {
  /** Decides what fails; undefined while nothing does. */
  chance: Random | undefined;
  /** A call fails once in so many. */
  rarity = 8;
  /** Faults so far. */
  faults = 0;
  onFault: (what: string) => void = () => {};
  /** Asked before each call that changes something; true: the server is killed before it. */
  kills: () => boolean = () => false;
  readonly #calls: SystemCalls;
  #root = "";
  /** Everything below this path is a server's, descriptors included. */
  #home = "";
  readonly #files = new Map<number, { name: string; content: Content } | "directory">();
  #live = new Map<string, Content>();
  /** The directory after each change since it was last synced, that one first. */
  #history: Entries[] = [];

  constructor(calls: SystemCalls) {
    this.#calls = calls;
    Object.assign(fs, {
      openSync: (...args: Parameters<typeof fs.openSync>) => this.#open(args),
      writeSync: (...args: unknown[]) => this.#write(args),
      fsyncSync: (fd: number) => this.#fsync(fd),
      closeSync: (fd: number) => this.#close(fd),
      renameSync: (from: string, to: string) => this.#rename(from, to),
      unlinkSync: (path: fs.PathLike) => this.#unlink(path),
    });
    syncBuiltinESMExports();
  }

  /** Goes over to a directory that is not there yet. */
  use(home: string, root: string): void {
    this.#home = home;
    this.#root = root;
    this.#files.clear();
    this.#live = new Map();
    this.#history = [new Map()];
  }

  /** The ledger's text as whoever reads it finds it. */
  ledger(): string | undefined {
    return this.#live.get("ledger.json")?.bytes.toString();
  }

  /**
   * The power fails: of the changes since the directory was last synced any number have come to the disk, and of files that
   * were not synced some of their bytes, or zeros in their place.
   */
  losePower(random: Random): void {
    const entries = this.#history[random.below(this.#history.length)] ?? new Map<string, Content>();
    this.#live = new Map();
    for (const [name, { bytes, synced }] of entries) {
      const torn = () =>
        random.once(2) ? bytes.subarray(0, random.below(bytes.length + 1)) : Buffer.alloc(bytes.length);
      const left = synced ?? torn();
      this.#live.set(name, { bytes: left, synced: left });
    }
    this.#history = [new Map(this.#live)];
  }

  /** Puts what the disk holds into another directory, for the next server. */
  moveTo(home: string, root: string): void {
    const live = this.#live;
    const history = this.#history;
    this.use("", "");
    real.mkdirSync(root, { mode: 0o700, recursive: true });
    for (const [name, { bytes }] of live) real.writeFileSync(join(root, name), bytes, { mode: 0o600 });
    this.use(home, root);
    this.#live = live;
    this.#history = history;
  }

  #name(path: unknown): string | undefined {
    const text = String(path);
    return this.#root !== "" && text.startsWith(`${this.#root}/`) && !text.endsWith(".lock")
      ? text.slice(this.#root.length + 1)
      : undefined;
  }

  /** @throws what the call fails with, if it does */
  #happens(call: Call): void {
    if (this.#calls.dead || this.kills()) throw failure("EIO", call);
    if (this.chance === undefined || !this.chance.once(this.rarity)) return;
    const code = this.chance.pick(FAULTS[call] as readonly [string, ...string[]]);
    this.#note(`${call}: ${code}`);
    throw failure(code, call);
  }

  #note(what: string): void {
    this.faults++;
    this.onFault(what);
  }

  #changed(): void {
    this.#history.push(new Map(this.#live));
  }

  #open(args: Parameters<typeof fs.openSync>): number {
    const [path, flags] = args;
    const name = this.#name(path);
    const isDirectory = this.#root !== "" && String(path) === this.#root;
    const creates = name !== undefined && flags !== undefined && flags !== "r";
    if (creates || isDirectory) this.#happens("openSync");
    else if (this.#calls.dead && String(path).startsWith(this.#home)) throw failure("EIO", "openSync");
    const fd = real.openSync(...args);
    if (this.#home !== "" && String(path).startsWith(`${this.#home}/`)) this.#calls.note(fd);
    if (isDirectory) this.#files.set(fd, "directory");
    if (creates) {
      const content: Content = { bytes: Buffer.alloc(0), synced: undefined };
      this.#live.set(name, content);
      this.#files.set(fd, { name, content });
      this.#changed();
    }
    return fd;
  }

  #write(args: unknown[]): number {
    const write = real.writeSync as (...given: unknown[]) => number;
    const file = this.#files.get(args[0] as number);
    if (file === undefined || file === "directory") return write(...args);
    this.#happens("writeSync");
    const [fd, data, from = 0, length, position = null] = args as [
      number,
      Uint8Array | string,
      number?,
      number?,
      number?,
    ];
    const bytes = Buffer.from(data).subarray(from, length === undefined ? undefined : from + length);
    let taken = bytes.length;
    if (this.chance !== undefined && taken > 1 && this.chance.once(this.rarity)) {
      this.#note("writeSync: short");
      taken = 1 + this.chance.below(taken - 1);
    }
    const at = position ?? file.content.bytes.length;
    const some = bytes.subarray(0, taken);
    file.content.bytes = Buffer.concat([
      file.content.bytes.subarray(0, at),
      some,
      file.content.bytes.subarray(at + taken),
    ]);
    file.content.synced = undefined;
    return write(fd, some, 0, taken, position);
  }

  #fsync(fd: number): void {
    const file = this.#files.get(fd);
    if (file === undefined) {
      real.fsyncSync(fd);
      return;
    }
    this.#happens("fsyncSync");
    // The real disk is of no interest here.
    if (file === "directory") this.#history = [new Map(this.#live)];
    else file.content.synced = file.content.bytes;
  }

  #close(fd: number): void {
    const file = this.#files.get(fd);
    if (file !== undefined && this.#calls.dead) throw failure("EIO", "closeSync");
    this.#files.delete(fd);
    this.#calls.open.delete(fd);
    real.closeSync(fd);
    if (file !== undefined) this.#happens("closeSync");
  }

  #rename(from: string, to: string): void {
    const [old, name] = [this.#name(from), this.#name(to)];
    if (old === undefined || name === undefined) {
      real.renameSync(from, to);
      return;
    }
    this.#happens("renameSync");
    real.renameSync(from, to);
    const content = this.#live.get(old);
    this.#live.delete(old);
    if (content !== undefined) this.#live.set(name, content);
    this.#changed();
  }

  #unlink(path: fs.PathLike): void {
    const name = this.#name(path);
    if (name === undefined) {
      if (this.#calls.dead && `${path}`.startsWith(this.#home)) throw failure("EIO", "unlinkSync");
      real.unlinkSync(path);
      return;
    }
    if (this.#live.has(name)) this.#happens("unlinkSync");
    real.unlinkSync(path);
    if (this.#live.delete(name)) this.#changed();
  }
}

function failure(code: string, call: string): NodeJS.ErrnoException {
  const name = call.replace("Sync", "");
  return Object.assign(new Error(`${code}: simulated, ${name}`), { code, syscall: name });
}
