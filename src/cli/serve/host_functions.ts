import { reasonOf } from "../../fence/error.js";
import type { Ledger, LedgerDriver } from "../../fence/ledger.js";
import { bindToVfio, giveBack, readBinding } from "../../host/driver_binding.js";
import { vfioHolders } from "../../host/in_use.js";
import { readHost } from "../../host/sysfs_machine.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { ownedFunctions } from "./hardware.js";
import { refuseUnservableHost } from "./host_check.js";

/** Functions of this host that a server takes from their drivers for vfio-pci, and gives back; the ledger has whose they were. */
export class HostFunctions {
  constructor(
    private readonly machine: Machine,
    private readonly allowInUse: boolean,
  ) {}

  /**
   * Refuses assignments whose functions cannot be served, apart from those that are.
   * @throws UsageError as {@link refuseUnservableHost}
   */
  refuseUnservable(assignments: readonly Assignment[], { drivers = [] }: Ledger): void {
    const { functions, groups } = readHost("/");
    const now = { ...this.machine, functions, ...(groups !== undefined && { groups }) };
    const held = new Set(drivers.map(({ address }) => address));
    refuseUnservableHost(now, assignments, { allowInUse: this.allowInUse, held });
  }

  /** Who has the functions of these assignments now, of those that are not in the ledger yet. */
  drivers(assignments: readonly Assignment[], { drivers = [] }: Ledger): LedgerDriver[] {
    const known = new Set(drivers.map(({ address }) => address));
    return this.#owned(assignments).flatMap((address) => (known.has(address) ? [] : [readBinding(address)]));
  }

  /**
   * Has vfio-pci take the functions of these assignments. When one cannot be had, those that were taken are given back.
   * @throws UsageError with why
   */
  take(assignments: readonly Assignment[], ledger: Ledger): void {
    const taken: PciAddress[] = [];
    for (const address of this.#owned(assignments)) {
      const had = readBinding(address).driver === "vfio-pci";
      try {
        bindToVfio(address);
        if (!had) taken.push(address);
      } catch (error) {
        this.giveBack(taken, ledger, () => {});
        throw new UsageError(`nothing is served: ${reasonOf(error)}`);
      }
    }
  }

  /** Those that the ledger has as taken, and that these assignments do not have. */
  left(assignments: readonly Assignment[], { drivers = [] }: Ledger): PciAddress[] {
    const owned = new Set(this.#owned(assignments));
    return drivers.flatMap(({ address }) => (owned.has(address) ? [] : [address]));
  }

  /**
   * Gives functions back to the drivers that had them.
   * @param tell told why one could not be
   * @returns those that were given back
   */
  giveBack(
    addresses: readonly PciAddress[],
    { drivers = [] }: Ledger,
    tell: (of: PciAddress, message: string) => void,
  ): PciAddress[] {
    return addresses.filter((address) => {
      const former = drivers.find((each) => each.address === address);
      if (former === undefined) return false;
      try {
        // vfio-pci lets go when nobody has the device open: waiting for that, for ourselves perhaps, might never end.
        const [holder] = former.driver === "vfio-pci" ? [] : vfioHolders(address);
        if (holder !== undefined) throw new Error(`process ${holder} still has it open by VFIO`);
        giveBack(former);
        return true;
      } catch (error) {
        tell(address, `is not given back to ${former.driver ?? "nobody"}: ${reasonOf(error)}`);
        return false;
      }
    });
  }

  #owned(assignments: readonly Assignment[]): PciAddress[] {
    return ownedFunctions(this.machine, assignments, { others: true }).map(({ address }) => address);
  }
}
