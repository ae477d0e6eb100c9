import type { PciAddress } from "../src/pci/address.js";
import type { DeviceClient, Ioeventfd, RegionArea, VfioDevice, VfioRegion } from "../src/vfio/device.js";
import { VfioError } from "../src/vfio/error.js";
import type { Steps } from "../src/vfio/steps.js";
import type { VirtualMachine } from "../src/virtual/virtual_machine.js";

/** How a {@link MadeUpGpuDevice} differs from a plain one. */
export interface MadeUp {
  /** Milliseconds for which it waits before the reset hits and again after it. */
  delay?: number;
  /** Pieces of BAR0 that may be mapped; all of it when absent. */
  areas?: RegionArea[];
  ioeventfds?: Ioeventfd[];
  /** Bytes of the ROM. */
  rom?: number;
}

/** A GPU of a virtual machine as a VFIO device of the plainest kind, whose BAR0 may be mapped and whose reset can fail. */
export class MadeUpGpuDevice implements VfioDevice {
  readonly regions: (VfioRegion | undefined)[];
  readonly irqs = [];
  /** Every write to it: region, offset, bytes. */
  readonly writes: [region: number, offset: number, data: number[]][] = [];
  /** What happened to it, in order. */
  readonly events: string[] = [];
  /** Thrown by the next resets, before or after the hardware is hit. */
  failing: "before" | "after" | undefined;
  failingAfterClose = false;
  /** Called after everything that may have changed the hardware. */
  onChange: () => void = () => {};

  constructor(
    readonly vm: VirtualMachine,
    readonly address: PciAddress,
    readonly made: MadeUp = {},
  ) {
    const open = { readable: true, writable: true };
    this.regions = new Array<VfioRegion | undefined>(9).fill(undefined);
    const mapping = { fd: 99, offset: 0, ...(made.areas && { areas: made.areas }) };
    this.regions[0] = { ...open, size: 0x1000000, mapping, ...(made.ioeventfds && { ioeventfds: made.ioeventfds }) };
    this.regions[1] = { ...open, size: 16 * 2 ** 30 };
    this.regions[3] = { ...open, size: 32 * 2 ** 20 };
    if (made.rom !== undefined) this.regions[6] = { readable: true, writable: false, size: made.rom };
    this.regions[7] = { ...open, size: 4096, mapping: { fd: 98, offset: 0 } };
  }

  get #gpu() {
    return this.vm.gpu(this.address);
  }

  read(region: number, offset: number, data: Uint8Array): void {
    for (let i = 0; i < data.length; i++) {
      const at = offset + i;
      if (region === 7) data[i] = this.#gpu.readConfig(at, 1);
      else data[i] = region === 0 ? this.#gpu.readBar0(at & ~3) >>> (8 * (at & 3)) : 0x5a;
    }
  }

  write(region: number, offset: number, data: Uint8Array): void {
    this.writes.push([region, offset, [...data]]);
    if (region === 7) {
      for (let i = 0; i < data.length; i++) this.#gpu.writeConfig(offset + i, 1, data[i] ?? 0);
    } else if (region === 0) {
      for (let word = offset & ~3; word < offset + data.length; word += 4) {
        let value = this.#gpu.readBar0(word);
        for (let i = 0; i < 4; i++) {
          const byte = data[word + i - offset];
          if (byte !== undefined) value = (value & ~(0xff << (8 * i))) | (byte << (8 * i));
        }
        this.#gpu.writeBar0(word, value >>> 0);
        this.onChange();
      }
    }
    this.onChange();
  }

  *reset(): Steps {
    this.events.push("reset");
    this.vm.holdNpuLinks(this.address);
    try {
      yield { deadline: performance.now() + (this.made.delay ?? 0) };
      if (this.failing === "before") throw new VfioError("EIO", "the port does not answer");
      this.vm.secondaryBusReset(this.address, "firmware");
      this.onChange();
      yield { deadline: performance.now() + (this.made.delay ?? 0) };
      if (this.failing === "after") throw new VfioError("EIO", "it did not come back in time");
    } finally {
      this.vm.releaseNpuLinks(this.address);
      this.onChange();
    }
  }

  open(_client: DeviceClient): void {
    this.events.push("open");
  }

  close(): void {
    this.events.push("close");
  }

  *afterClose(): Steps {
    yield { deadline: 0 };
    if (this.failingAfterClose) throw new Error("the memory could not be cleared");
    this.events.push("cleared");
  }

  mmap(_region: number, offset: number, _length: number): { fd: number; offset: number } {
    return { fd: 99, offset };
  }

  ioevent(): void {
    this.events.push("ioevent");
  }
}
