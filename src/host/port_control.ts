import { constants } from "node:fs";
import { join } from "node:path";
import { type Fd, NativeMemory, OsError, openFile, preadInto, pwriteFrom } from "../os/index.js";
import { HostError } from "./error.js";
import type { FunctionFolder } from "./function_folder.js";

const PCI_BRIDGE_CONTROL = 0x3e;
const BRIDGE_CONTROL_BUS_RESET = 1 << 6;
const PCI_CAPABILITIES_POINTER = 0x34;
const CAPABILITY_EXPRESS = 0x10;
const LINK_CAPABILITIES = 0x0c;
const LINK_CAPABILITIES_ACTIVE_REPORTING = 1 << 20;
const LINK_STATUS = 0x12;
const LINK_STATUS_ACTIVE = 1 << 13;
const MOST_CAPABILITIES = 48;

/** The registers of a port that reset what is below it, through its `config` file. */
export class PortControl {
  readonly #port: FunctionFolder;
  readonly #config: Fd;
  readonly #word = new NativeMemory(4);
  readonly #express: number | undefined;

  /** @throws HostError `ERESET` when its config space cannot be written */
  constructor(port: FunctionFolder) {
    this.#port = port;
    const path = join(port.path, "config");
    try {
      this.#config = openFile(path, constants.O_RDWR);
    } catch (error) {
      throw error instanceof OsError ? port.failure(path, error.code, "ERESET") : error;
    }
    this.#express = this.#findExpress();
  }

  /** Sets or clears Secondary Bus Reset (PCIe base specification 7.5.1.3.13). @throws HostError `ERESET` */
  setReset(on: boolean): void {
    const control = this.#read(PCI_BRIDGE_CONTROL, 2);
    if (control === 0xffff) throw new HostError("ERESET", `the port ${this.#port.address} does not answer`);
    const value = on ? control | BRIDGE_CONTROL_BUS_RESET : control & ~BRIDGE_CONTROL_BUS_RESET;
    this.#word.view.setUint32(0, value, true);
    pwriteFrom(this.#config, this.#word.address, 2, PCI_BRIDGE_CONTROL);
  }

  /** Whether the link below is up; undefined where the port does not tell. */
  get linkIsUp(): boolean | undefined {
    if (this.#express === undefined) return undefined;
    const capabilities = this.#read(this.#express + LINK_CAPABILITIES, 4);
    if ((capabilities & LINK_CAPABILITIES_ACTIVE_REPORTING) === 0) return undefined;
    return (this.#read(this.#express + LINK_STATUS, 2) & LINK_STATUS_ACTIVE) !== 0;
  }

  close(): void {
    this.#config.close();
  }

  #findExpress(): number | undefined {
    let at = this.#read(PCI_CAPABILITIES_POINTER, 1) & ~3;
    for (let hops = 0; hops < MOST_CAPABILITIES && at >= 0x40; hops++) {
      if (this.#read(at, 1) === CAPABILITY_EXPRESS) return at;
      at = this.#read(at + 1, 1) & ~3;
    }
    return undefined;
  }

  #read(offset: number, size: 1 | 2 | 4): number {
    this.#word.view.setUint32(0, 0);
    preadInto(this.#config, this.#word.address, size, offset);
    return this.#word.view.getUint32(0, true);
  }
}
