import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  realpathSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { Fd, Mapping } from "/linkfence/dist/os/index.js";

const DEVICES = "/sys/bus/pci/devices";
const COMMAND = 0x04;
export const COMMAND_MEMORY = 1 << 1;
export const COMMAND_BUS_MASTER = 1 << 2;
export const COMMAND_INTERRUPT_DISABLE = 1 << 10;
const CAPABILITIES_POINTER = 0x34;

const hex = (id) => `0x${id.toString(16).padStart(4, "0")}`;

/** A PCI function of the guest, as sysfs shows it. */
export class PciFunction {
  /** Finds the only function with these ids. */
  static find(vendor, device) {
    const found = PciFunction.findAll(vendor, device);
    if (found.length !== 1) throw new Error(`${found.length} functions ${hex(vendor)}:${hex(device)}`);
    return found[0];
  }

  /** Finds all functions with these ids, by address. */
  static findAll(vendor, device) {
    const found = readdirSync(DEVICES).filter((address) => {
      const read = (name) => readFileSync(join(DEVICES, address, name), "utf8").trim();
      return read("vendor") === hex(vendor) && read("device") === hex(device);
    });
    return found.sort().map((address) => new PciFunction(address));
  }

  constructor(address) {
    this.address = address;
    this.folder = join(DEVICES, address);
  }

  read(attribute) {
    return readFileSync(join(this.folder, attribute), "utf8").trim();
  }

  write(attribute, value) {
    writeFileSync(join(this.folder, attribute), value);
  }

  /** The driver that has the function; undefined when none has. */
  get driver() {
    try {
      return basename(readlinkSync(join(this.folder, "driver")));
    } catch {
      return undefined;
    }
  }

  /** Gives the function to a driver. */
  bind(driver) {
    this.write("driver_override", driver);
    writeFileSync("/sys/bus/pci/drivers_probe", this.address);
    const bound = basename(realpathSync(join(this.folder, "driver")));
    if (bound !== driver) throw new Error(`${this.address} went to ${bound}, not to ${driver}`);
  }

  unbind() {
    this.write("driver/unbind", this.address);
    this.write("driver_override", "\n");
  }

  readConfig(offset, length) {
    const data = Buffer.alloc(length);
    const fd = openSync(join(this.folder, "config"), "r");
    const count = readSync(fd, data, 0, length, offset);
    closeSync(fd);
    return data.subarray(0, count);
  }

  writeConfig16(offset, value) {
    const fd = openSync(join(this.folder, "config"), "r+");
    writeSync(fd, Uint8Array.of(value & 0xff, value >> 8), 0, 2, offset);
    closeSync(fd);
  }

  get command() {
    return this.readConfig(COMMAND, 2).readUInt16LE();
  }

  set command(value) {
    this.writeConfig16(COMMAND, value);
  }

  /** Where a capability is. */
  capability(id) {
    let at = this.readConfig(CAPABILITIES_POINTER, 1)[0];
    for (let hops = 0; at !== 0 && hops < 48; hops++) {
      const header = this.readConfig(at, 2);
      if (header[0] === id) return at;
      at = header[1];
    }
    throw new Error(`no capability ${id}`);
  }

  /** The address, the size and the flags of a BAR, as the kernel has it; BigInts. */
  bar(index) {
    const line = this.read("resource").split("\n")[index] ?? "";
    const [start = 0n, end = 0n, flags = 0n] = line.split(" ").map(BigInt);
    return { start, size: end === 0n ? 0n : end - start + 1n, flags };
  }

  /** The port above. */
  get port() {
    return new PciFunction(basename(dirname(realpathSync(this.folder))));
  }

  /** Maps a BAR, or a piece of it; `suffix` may be `_wc`. */
  mapBar(index, size, offset = 0, suffix = "") {
    const fd = new Fd(openSync(join(this.folder, `resource${index}${suffix}`), "r+"));
    const mapping = new Mapping(fd, offset, size, "read-write");
    fd.close();
    return mapping;
  }
}
