import { readdirSync, readlinkSync } from "node:fs";
import { reasonOf } from "../../fence/error.js";
import type { Ledger, LedgerDriver } from "../../fence/ledger.js";
import { strategyFor } from "../../fence/strategy.js";
import { bindToVfio, giveBack, readBinding } from "../../host/driver_binding.js";
import { vfioHolders } from "../../host/in_use.js";
import { LivePort } from "../../host/live_port.js";
import { keepPowered } from "../../host/power.js";
import { readHost } from "../../host/sysfs_machine.js";
import { groupOf } from "../../host/vfio/vfio_group.js";
import { HOST } from "../../isolation/assignment.js";
import { makePlan, type PlanOptions } from "../../isolation/plan.js";
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
  refuseUnservable(assignments: readonly Assignment[], served: readonly Assignment[]): void {
    const held = new Set(this.#owned(served));
    refuseUnservableHost(this.#now(), assignments, { allowInUse: this.allowInUse, held });
  }

  /** Who has the functions of these assignments now. */
  drivers(assignments: readonly Assignment[]): LedgerDriver[] {
    return this.#owned(assignments).map((address) => readBinding(address));
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
        // vfio-pci suspends a function that nobody has open, and then it answers nothing.
        keepPowered(address);
      } catch (error) {
        this.giveBack(taken, ledger, { rest: false, tell: () => {} });
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
   * @returns those that drivers of the host have again; what nobody had, or vfio-pci, is not among them while `rest` is set
   */
  giveBack(
    addresses: readonly PciAddress[],
    { drivers = [] }: Ledger,
    { rest, tell }: { rest: boolean; tell: (of: PciAddress, message: string) => void },
  ): PciAddress[] {
    return addresses.filter((address) => {
      const former = drivers.find((each) => each.address === address);
      if (former === undefined) return false;
      try {
        // vfio-pci lets go when nobody has the device open: waiting for that, for ourselves perhaps, might never end.
        const [holder] = former.driver === "vfio-pci" ? [] : vfioHolders(address);
        if (holder !== undefined) throw new Error(`process ${holder} still has it open by VFIO`);
        if (former.driver !== "vfio-pci" && hasGroupOpen(address))
          throw new Error("this process still has it open by VFIO");
        const stays = rest && isResting(former.driver ?? undefined);
        giveBack(stays ? { ...former, powerControl: null } : former);
        return !stays;
      } catch (error) {
        tell(address, `is not given back to ${former.driver ?? "nobody"}: ${reasonOf(error)}`);
        return false;
      }
    });
  }

  /**
   * Cuts links again of GPUs that no driver of the host has, for the kernel has reset them when they were closed. Until they
   * are released they stay powered, and in the ledger: without power they would lose what cuts them.
   * @param tell told why one is not cut
   */
  fenceAtRest(
    assignments: readonly Assignment[],
    options: PlanOptions,
    tell: (of: PciAddress, message: string) => void,
  ): void {
    const machine = this.#now();
    const drivers = new Map(machine.functions.map(({ address, driver }) => [address, driver]));
    for (const { address, part, assignment, untouched, cutLinks } of makePlan(machine, assignments, options).gpus) {
      if (assignment === HOST || untouched || !isResting(drivers.get(address))) continue;
      const port = new LivePort(address, { write: true });
      try {
        const [holder] = vfioHolders(address);
        if (holder !== undefined) throw new Error(`process ${holder} has it open by VFIO`);
        keepPowered(address);
        strategyFor(part)?.cut(port, cutLinks);
      } catch (error) {
        tell(address, `its links are not cut any more, and could not be cut again: ${reasonOf(error)}`);
      } finally {
        port.close();
      }
    }
  }

  /** The machine with who has its functions now. */
  #now(): Machine {
    const { functions, groups } = readHost("/");
    return { ...this.machine, functions, ...(groups !== undefined && { groups }) };
  }

  #owned(assignments: readonly Assignment[]): PciAddress[] {
    return ownedFunctions(this.machine, assignments, { others: true }).map(({ address }) => address);
  }
}

/** Whether a function with this driver is nobody's at work. */
function isResting(driver: string | undefined): boolean {
  return driver === undefined || driver === "vfio-pci";
}

/** Whether this process itself has the function's group open. */
function hasGroupOpen(address: PciAddress): boolean {
  const group = `/dev/vfio/${groupOf(address)}`;
  return readdirSync("/proc/self/fd").some((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === group;
    } catch {
      return false;
    }
  });
}
