import { constants } from "node:fs";
import { join } from "node:path";
import { type Fd, NativeMemory, OsError, openFile, preadInto, pwriteFrom } from "../os/index.js";
import type { PciAddress } from "../pci/address.js";
import type { Steps } from "../vfio/steps.js";
import { HostError } from "./error.js";
import { FunctionFolder } from "./function_folder.js";
import { busReset } from "./function_reset.js";
import { vfioHolders } from "./in_use.js";
import { ResourceMemory } from "./resource_memory.js";

export interface LivePortOptions {
  /**
   * Whether anything may be changed. Without it registers are read only, and config space is written for one purpose: to
   * have memory decoded for the moment of a read, of a function that nobody drives.
   */
  write: boolean;
  /** Functions that a reset may hit although a driver has them. */
  mayHit?: ReadonlySet<PciAddress>;
  /** Told in one line of whatever takes longer than a moment. */
  onProgress?: (line: string) => void;
}

const ALL_ONES = 0xffffffff;

/**
 * A function of this host by its files in sysfs: config space by `config`, BAR0 by `resource0`, its reset by the port above
 * it. No driver is asked; above all is no VFIO group opened, for opening and closing one resets its functions.
 */
export class LivePort {
  readonly #folder: FunctionFolder;
  readonly #options: LivePortOptions;
  readonly #word = new NativeMemory(4);
  #config: Fd | undefined;
  #bar0: ResourceMemory | undefined;

  /** @param root the folder above `sys`; another than `/` is for tests */
  constructor(address: PciAddress, options: LivePortOptions, root = "/") {
    this.#folder = new FunctionFolder(address, root);
    this.#options = options;
  }

  /**
   * Reads 1, 2 or 4 bytes, little endian. Waits while the kernel resets the function.
   * @throws HostError `EGONE`, `EREGISTERS` when the kernel does not show it
   */
  readConfig(offset: number, size: 1 | 2 | 4): number {
    const count = this.#onConfig((fd) => preadInto(fd, this.#word.address, size, offset));
    // A user who is not root gets the first 64 bytes.
    if (count < size)
      throw new HostError("EREGISTERS", `config space of ${this.#folder.address} ends at ${offset}; run as root`);
    return size === 4
      ? this.#word.view.getUint32(0, true)
      : size === 2
        ? this.#word.view.getUint16(0, true)
        : this.#word.view.getUint8(0);
  }

  /** @throws HostError as {@link readConfig}, and `EREGISTERS` when it may not be written */
  writeConfig(offset: number, size: 1 | 2 | 4, value: number): void {
    if (!this.#options.write) this.#requireUndriven();
    this.#word.view.setUint32(0, value, true);
    this.#onConfig((fd) => pwriteFrom(fd, this.#word.address, size, offset));
  }

  /** @throws HostError `EREGISTERS` when BAR0 cannot be reached, or the function is suspended; `EGONE` */
  readBar0(offset: number): number {
    const value = this.#onBar0((memory) => memory.read(offset));
    if (value === ALL_ONES) this.#requirePower();
    return value;
  }

  /** @throws HostError as {@link readBar0} */
  writeBar0(offset: number, value: number): void {
    if (!this.#options.write) throw new HostError("EREGISTERS", `${this.#folder.address} is read only here`);
    this.#onBar0((memory) => memory.write(offset, value));
  }

  /** Resets everything below the port above, see {@link busReset}. */
  secondaryBusReset(): Steps {
    const { mayHit = new Set<PciAddress>(), onProgress = () => {} } = this.#options;
    return busReset(this.#folder.address, mayHit, onProgress);
  }

  /** Lets go of what is open; the next access opens it again. */
  close(): void {
    this.#config?.close();
    this.#bar0?.close();
    this.#config = undefined;
    this.#bar0 = undefined;
  }

  #onConfig<T>(access: (fd: Fd) => T): T {
    const path = join(this.#folder.path, "config");
    try {
      this.#config ??= openFile(path, constants.O_RDWR);
      return access(this.#config);
    } catch (error) {
      if (!(error instanceof OsError)) throw error;
      this.close();
      this.#folder.requireExists();
      throw this.#folder.failure(path, error.code, "EREGISTERS");
    }
  }

  /** A mapping that the kernel has taken away is made anew: whoever claimed the BAR may have let go since. */
  #onBar0<T>(access: (memory: ResourceMemory) => T): T {
    const former = this.#bar0;
    try {
      this.#bar0 ??= new ResourceMemory(this.#folder, this.#options.write ? "read-write" : "read");
      return access(this.#bar0);
    } catch (error) {
      this.#bar0?.close();
      this.#bar0 = undefined;
      if (former === undefined) throw error;
      return this.#onBar0(access);
    }
  }

  /** What a driver does with config space at the same moment would be undone. */
  #requireUndriven(): void {
    const { address, root } = this.#folder;
    const driver = this.#folder.link("driver");
    if (driver === undefined || (driver === "vfio-pci" && vfioHolders(address, root).length === 0)) return;
    throw new HostError(
      "EREGISTERS",
      `memory of ${address} is not decoded, and only ${driver}, which has it, may change that`,
    );
  }

  #requirePower(): void {
    const state = this.#folder.read("power_state");
    if (state === undefined || !state.startsWith("D") || state === "D0") return;
    const { address, path } = this.#folder;
    throw new HostError(
      "EREGISTERS",
      `${address} is suspended (${state}), so its registers do not answer: echo on > ${path}/power/control`,
    );
  }
}
