import type { Bridge, Machine } from "../machine/machine.js";
import { createMemfd, type Fd, Mapping } from "../os/index.js";
import type { PciAddress } from "../pci/address.js";
import { VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD, VFIO_REGION_TYPE_PCI_VENDOR_TYPE } from "../vfio/constants.js";
import type { RegionMapping, VfioRegion } from "../vfio/device.js";
import { VfioError } from "../vfio/error.js";
import { clipped, clippedLength } from "./region_clip.js";

const PCI_VENDOR_IBM = 0x1014;

/** What the ATSD region of a bridge tells of its link. */
export interface AtsdFacts {
  /** Address by which DMA over the link reaches the GPU's memory. */
  tgt: bigint;
  /** Code of `ibm,nvlink-speed`. */
  linkSpeed: number;
  /** The link has a register page of its own. */
  hasRegister: boolean;
}

/**
 * The ATSD region of an NPU bridge: the register by which a guest invalidates the address translations that its GPU keeps.
 * Its operations are those of Linux 5.12 (drivers/vfio/pci/vfio_pci_nvlink2.c). A virtual GPU keeps no translations, so
 * the registers are memory: an invalidation has no effect, and its status reads 0, which is that it is done.
 *
 * A link without a register has a region of size 0, which still tells the addresses and the speed.
 */
export class AtsdRegion {
  readonly region: VfioRegion;
  readonly #pageSize: number;
  #file: Fd;
  #page: Mapping | undefined;

  /** @param pageSize the host's, in bytes */
  constructor(
    readonly name: string,
    facts: AtsdFacts,
    pageSize: number,
  ) {
    this.#pageSize = pageSize;
    const size = facts.hasRegister ? pageSize : 0;
    const mapping = (): RegionMapping => ({ fd: this.#file.number, offset: 0 });
    this.region = {
      size,
      readable: true,
      writable: true,
      clips: true,
      capabilities: [
        {
          kind: "type",
          type: VFIO_REGION_TYPE_PCI_VENDOR_TYPE + PCI_VENDOR_IBM,
          subtype: VFIO_REGION_SUBTYPE_IBM_NVLINK2_ATSD,
        },
        { kind: "nvlink2-ssatgt", tgt: facts.tgt },
        { kind: "nvlink2-lnkspd", linkSpeed: facts.linkSpeed },
      ],
      // The file is another one for each owner.
      get mapping() {
        return mapping();
      },
    };
    this.#file = createMemfd(name, size);
    try {
      this.#page = this.#map();
    } catch (error) {
      this.#file.close();
      throw error;
    }
  }

  /**
   * Fills `data` from the registers, as far as the page reaches.
   * @returns how many bytes: by so much a file's position advances
   * @throws {VfioError} EINVAL from the region's end on
   */
  read(offset: number, data: Uint8Array): number {
    const length = clippedLength(this.region.size, offset, data.length);
    if (this.#page !== undefined) data.set(this.#page.bytes.subarray(offset, offset + length));
    return length;
  }

  /** As {@link read}. */
  write(offset: number, data: Uint8Array): number {
    const length = clippedLength(this.region.size, offset, data.length);
    this.#page?.bytes.set(clipped(data, length), offset);
    return length;
  }

  /** Where to map the page. @throws {VfioError} EINVAL for anything but exactly the page, and where there is none */
  mmap(offset: number, length: number): { fd: number; offset: number } {
    if (offset === 0 && length === this.#pageSize && this.region.size > 0) return { fd: this.#file.number, offset: 0 };
    throw new VfioError("EINVAL", `mmap of ${length} bytes at ${offset} of an ATSD region of ${this.region.size}`);
  }

  /** A new page, all zeros: whoever still maps the old one keeps the old one only. */
  renew(): void {
    const file = createMemfd(this.name, this.region.size);
    this.close();
    this.#file = file;
    this.#page = this.#map();
  }

  close(): void {
    this.#page?.unmap();
    this.#page = undefined;
    this.#file.close();
  }

  #map(): Mapping | undefined {
    return this.region.size === 0 ? undefined : new Mapping(this.#file, 0, this.region.size, "read-write");
  }
}

/**
 * The region of this bridge.
 * @param pageSize the host's, in bytes: 65536 on most POWER hosts
 * @throws {VfioError} ENODEV for a bridge without a GPU, EFAULT when the TGT address or the link's speed is not known
 */
export function atsdRegion(machine: Machine, bridge: PciAddress, pageSize = 4096): AtsdRegion {
  return new AtsdRegion(`linkfence ATSD ${bridge}`, atsdFacts(machine, bridge), pageSize);
}

function atsdFacts(machine: Machine, address: PciAddress): AtsdFacts {
  const bridge = machine.bridges.find((each) => each.address === address);
  if (bridge?.gpu === undefined) throw new VfioError("ENODEV", "it leads to no GPU");
  const tgt = targetAddress(machine, bridge);
  if (tgt === undefined) throw new VfioError("EFAULT", "it has no ibm,device-tgt-addr");
  if (bridge.speed === undefined) throw new VfioError("EFAULT", "it has no ibm,nvlink-speed");
  return { tgt, linkSpeed: bridge.speed, hasRegister: bridge.atsd !== undefined };
}

/** The bridge's own; where no bridge of its GPU says one, as in a table of a board's wiring, that of the memory. */
function targetAddress(machine: Machine, { gpu, tgt }: Bridge): bigint | undefined {
  if (tgt !== undefined || machine.bridges.some((each) => each.gpu === gpu && each.tgt !== undefined)) return tgt;
  return machine.memory.find((each) => each.gpu === gpu)?.tgt;
}
