import { constants } from "node:fs";
import { join } from "node:path";
import {
  type Fd,
  mapUnseen,
  NativeMemory,
  OsError,
  openFile,
  preadInto,
  pwriteFrom,
  unmapUnseen,
} from "../os/index.js";
import { HostError } from "./error.js";
import type { FunctionFolder } from "./function_folder.js";
import { parseResources } from "./resource_file.js";

/** More than any GPU's register BAR has. */
const MOST_BYTES = 64 << 20;

/**
 * BAR0 of a function through its sysfs file `resource0`, 32 bits at a time. The kernel takes the mapping away when a driver
 * claims the BAR, and whoever touched it then would die of SIGBUS. So nobody does: accesses go through `/proc/self/mem` at
 * the mapping's address, which the kernel carries out itself (mm/memory.c, generic_access_phys: memcpy_fromio, one access
 * for four aligned bytes), and refuses with EIO when the mapping is gone.
 */
export class ResourceMemory {
  readonly #folder: FunctionFolder;
  readonly #size: number;
  readonly #start: number;
  readonly #memory: Fd;
  readonly #word = new NativeMemory(4);

  /** @throws HostError `EREGISTERS` when BAR0 cannot be mapped, with who has it and what to do; `EGONE` */
  constructor(folder: FunctionFolder, access: "read" | "read-write") {
    folder.requireExists();
    this.#folder = folder;
    const flags = access === "read" ? constants.O_RDONLY : constants.O_RDWR;
    const path = join(folder.path, "resource0");
    this.#size = sizeOf(folder);
    let start: number | undefined;
    let file: Fd | undefined;
    try {
      file = openFile(path, flags);
      start = mapUnseen(file, 0, this.#size, { readable: true, writable: access === "read-write" });
      this.#memory = openFile("/proc/self/mem", flags);
    } catch (error) {
      if (start !== undefined) unmapUnseen(start, this.#size);
      throw error instanceof OsError ? refusal(folder, error) : error;
    } finally {
      file?.close();
    }
    this.#start = start;
  }

  /**
   * Reads a register.
   * @param offset bytes, a multiple of 4
   * @throws HostError `EREGISTERS` when it is not in the BAR, or the BAR has been claimed meanwhile
   */
  read(offset: number): number {
    const at = this.#at(offset);
    this.#through(() => preadInto(this.#memory, this.#word.address, 4, at));
    return this.#word.view.getUint32(0, true);
  }

  /** Writes a register, as {@link read}. */
  write(offset: number, value: number): void {
    const at = this.#at(offset);
    this.#word.view.setUint32(0, value, true);
    this.#through(() => pwriteFrom(this.#memory, this.#word.address, 4, at));
  }

  close(): void {
    this.#memory.close();
    unmapUnseen(this.#start, this.#size);
  }

  #at(offset: number): number {
    if (Number.isInteger(offset) && offset >= 0 && offset % 4 === 0 && offset + 4 <= this.#size) {
      return this.#start + offset;
    }
    throw new HostError("EREGISTERS", `${this.#folder.address}: BAR0 has no register at ${offset}`);
  }

  #through(access: () => void): void {
    try {
      access();
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      this.#folder.requireExists();
      const { address } = this.#folder;
      const driver = this.#folder.link("driver");
      const why = driver === undefined ? "the kernel has taken the mapping away" : `${driver} has claimed it`;
      throw new HostError(
        "EREGISTERS",
        `BAR0 of ${address} cannot be reached through resource0 any more: ${why}`,
        error.code,
      );
    }
  }
}

/** @throws HostError `EREGISTERS` for a function without a BAR0 in memory */
function sizeOf(folder: FunctionFolder): number {
  const { resources } = parseResources(folder.read("resource") ?? "");
  const size = resources.find(({ index }) => index === 0)?.size ?? 0n;
  if (size === 0n || !folder.has("resource0")) {
    throw new HostError("EREGISTERS", `${folder.address} has no BAR0 that the kernel shows as resource0`);
  }
  return Number(size > BigInt(MOST_BYTES) ? BigInt(MOST_BYTES) : size);
}

function refusal(folder: FunctionFolder, { syscall, code }: OsError): HostError {
  const { address } = folder;
  const driver = folder.link("driver");
  const why = (words: string) =>
    new HostError("EREGISTERS", `BAR0 of ${address} cannot be reached through resource0: ${words}`, code);
  if (code === "EACCES" || (code === "EPERM" && syscall === "open")) return why("permission denied; run as root");
  if (code === "EPERM") return why("this kernel is locked down (Secure Boot does that), which forbids it");
  if (code === "EINVAL" && driver !== undefined) {
    return why(`${driver} has claimed it, and a kernel with strict devmem maps it for nobody else then`);
  }
  return why(code);
}
