import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import type { PciAddress } from "../pci/address.js";
import { errnoInWords, errnoOf, HostError, type HostErrorCode } from "./error.js";
import { isCanonical } from "./pci_sysfs.js";

/** A function's folder in sysfs, to read and to write: what linkfence does to a host goes through here. */
export class FunctionFolder {
  readonly path: string;

  /** @param root the folder above `sys`; another than `/` is for tests */
  constructor(
    readonly address: PciAddress,
    readonly root = "/",
  ) {
    this.path = join(root, "sys/bus/pci/devices", address);
  }

  /** Whether the kernel knows the function. */
  get exists(): boolean {
    return existsSync(this.path);
  }

  /** @throws HostError `EGONE` when the kernel does not know it */
  requireExists(): void {
    if (!this.exists) {
      throw new HostError(
        "EGONE",
        `${this.address} is gone: the kernel has no such function; is it unplugged or removed?`,
      );
    }
  }

  has(name: string): boolean {
    return existsSync(join(this.path, name));
  }

  /** The text of an attribute, trimmed; undefined when there is none or it cannot be read. */
  read(name: string): string | undefined {
    try {
      return readFileSync(join(this.path, name), "utf8").trim();
    } catch {
      return undefined;
    }
  }

  /** The last part of where a link leads: of `driver`, its name. */
  link(name: string): string | undefined {
    try {
      return basename(readlinkSync(join(this.path, name)));
    } catch {
      return undefined;
    }
  }

  /** Names in a folder of the function's; none when there is no such folder. */
  list(name: string): string[] {
    try {
      return readdirSync(join(this.path, name));
    } catch {
      return [];
    }
  }

  /**
   * Vendor and device id as config space has them, unlike the kernel's own files of them; undefined when nobody answers.
   */
  configIds(): number | undefined {
    let file: number | undefined;
    try {
      file = openSync(join(this.path, "config"), "r");
      const bytes = Buffer.alloc(4);
      const count = readSync(file, bytes, 0, 4, 0);
      const ids = bytes.readUInt32LE();
      return count < 4 || ids === 0xffffffff ? undefined : ids;
    } catch {
      return undefined;
    } finally {
      if (file !== undefined) closeSync(file);
    }
  }

  /**
   * Writes an attribute, in the one call that sysfs wants.
   * @param code of the error
   * @throws HostError with what could not be written, and what to do; `EGONE` when the function is gone
   */
  write(name: string, value: string, code: HostErrorCode): void {
    this.#write(join(this.path, name), value, code);
  }

  /** As {@link write}, to a file of the PCI bus: `drivers_probe`. */
  writeBus(name: string, value: string, code: HostErrorCode): void {
    this.#write(join(this.root, "sys/bus/pci", name), value, code);
  }

  /** The port that the function is below; undefined directly below a host bridge. */
  get port(): FunctionFolder | undefined {
    try {
      const above = basename(dirname(realpathSync(this.path)));
      return isCanonical(above) ? new FunctionFolder(above, this.root) : undefined;
    } catch {
      return undefined;
    }
  }

  /** The functions below a port, those below other ports among them, in no particular order. */
  get below(): FunctionFolder[] {
    return this.list(".")
      .filter(isCanonical)
      .map((address) => new FunctionFolder(address, this.root))
      .flatMap((child) => [child, ...child.below]);
  }

  #write(path: string, value: string, code: HostErrorCode): void {
    try {
      writeFileSync(path, value);
    } catch (error) {
      this.requireExists();
      throw this.failure(path, errnoOf(error), code);
    }
  }

  /** What a failed write to a file means. */
  failure(path: string, errno: string, code: HostErrorCode): HostError {
    const denied = errno === "EACCES" || errno === "EPERM" || errno === "EROFS";
    const hint = denied ? "; run as root, where /sys can be written" : "";
    return new HostError(code, `cannot write ${path}: ${errnoInWords(errno)}${hint}`, errno);
  }
}
