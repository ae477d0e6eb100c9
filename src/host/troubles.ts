import type { Unknown } from "../machine/machine.js";
import type { PciAddress } from "../pci/address.js";

/** What can be missing of a function in sysfs. */
export type Trouble =
  /** The link among the devices leads nowhere. */
  | "gone"
  /** No config space, or fewer than 64 bytes of it. */
  | "config"
  /** Config space of 64 (a CardBus bridge: 128) bytes. */
  | "header-only"
  /** Config space is all ones. */
  | "silent"
  /** No `resource` file, or lines in it that are no ranges. */
  | "resource"
  /** `driver`, `irq` or `numa_node` is there but cannot be read. */
  | "attribute";

/** Gathers troubles of functions, to say each once for all functions it struck. */
export class Troubles {
  readonly #struck = new Map<Trouble, Set<PciAddress>>();

  /**
   * @param total how many functions there are
   * @param live whether they are this host's own, where being root helps
   */
  constructor(
    private readonly total: number,
    private readonly live: boolean,
  ) {}

  add(trouble: Trouble, address: PciAddress): void {
    const struck = this.#struck.get(trouble);
    if (struck === undefined) this.#struck.set(trouble, new Set([address]));
    else struck.add(address);
  }

  /** One entry per kind of trouble; an entry about every function lists none. */
  asUnknown(): Unknown[] {
    return [...this.#struck].map(([trouble, struck]) => {
      const [first] = struck;
      const all = struck.size === this.total;
      const whose = struck.size === 1 ? `${first}` : `${all ? "all " : ""}${struck.size} PCI functions`;
      const action = this.#action(trouble);
      return {
        what: WORDS[trouble](whose),
        functions: all ? [] : [...struck],
        ...(action === undefined ? {} : { action }),
      };
    });
  }

  #action(trouble: Trouble): string | undefined {
    if (trouble === "silent") return "wake it up (power/control) or rescan the bus";
    if (trouble === "gone") return this.live ? "read the host again" : "copy the folders below /sys/devices too";
    return this.live ? "run as root" : "copy the tree as root";
  }
}

const WORDS: Readonly<Record<Trouble, (whose: string) => string>> = {
  gone: (whose) => `everything about ${whose}: the link in /sys/bus/pci/devices leads nowhere`,
  config: (whose) => `header and capabilities of ${whose}: config space cannot be read`,
  "header-only": (whose) => `capabilities and ACS of ${whose}: only the start of config space can be read`,
  silent: (whose) => `registers of ${whose}: config space reads all ones`,
  resource: (whose) => `BAR sizes of ${whose}: no usable resource file`,
  attribute: (whose) => `driver, IRQ or NUMA node of ${whose}`,
};
