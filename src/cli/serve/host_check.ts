import { existsSync } from "node:fs";
import { hostUses, vfioHolders } from "../../host/in_use.js";
import { leavesGroupViable } from "../../host/vfio/vfio_group.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { UsageError } from "../failure.js";
import { ownedFunctions } from "./hardware.js";

const VFIO_PCI = "/sys/bus/pci/drivers/vfio-pci";

/**
 * Everything that would keep functions of this host from being served, found before anything is touched.
 * @param options `held`: functions that are taken already, whoever had them before
 * @throws UsageError with the first of it, and what to do
 */
export function refuseUnservableHost(
  machine: Machine,
  assignments: readonly Assignment[],
  { allowInUse, held }: { allowInUse: boolean; held: ReadonlySet<PciAddress> },
): void {
  const owned = ownedFunctions(machine, assignments, { others: true });
  const owners = new Map(owned.map(({ address, owner }) => [address, owner]));
  refuseWithoutGroups(machine, [...owners.keys()]);
  refuseSharedGroups(machine, owners);
  if (!existsSync(VFIO_PCI)) throw new UsageError("vfio-pci is not loaded, so nothing was touched: modprobe vfio-pci");
  for (const { address } of owned) {
    if (held.has(address)) continue;
    const [opener] = vfioHolders(address);
    if (opener !== undefined) {
      throw new UsageError(`process ${opener} has ${address} open by VFIO already; end it first`);
    }
    const [use] = allowInUse ? [] : hostUses(address);
    if (use !== undefined) {
      throw new UsageError(
        `${address} is in use by this host: ${use}; nothing was touched. Free it, or give --allow-in-use to take it all the same`,
      );
    }
  }
}

function refuseWithoutGroups({ groups }: Machine, addresses: readonly PciAddress[]): void {
  const grouped = new Set(groups?.flatMap(({ members }) => members));
  const bare = addresses.find((address) => !grouped.has(address));
  if (bare === undefined) return;
  const why = grouped.size === 0 ? "this host has no IOMMU groups" : `${bare} is in no IOMMU group`;
  throw new UsageError(
    `${why}, so VFIO cannot have it and nothing was touched: switch the IOMMU on in the firmware's setup (VT-d, AMD-Vi) and boot with intel_iommu=on where it is Intel's`,
  );
}

/** VFIO gives a group to one owner, and only when no driver of the host has any of its functions. */
function refuseSharedGroups(machine: Machine, owners: ReadonlyMap<PciAddress, string>): void {
  const functions = new Map(machine.functions.map((each) => [each.address, each]));
  for (const { id, members } of machine.groups ?? []) {
    const named = new Set(members.flatMap((address) => owners.get(address) ?? []));
    if (named.size === 0) continue;
    if (named.size > 1) {
      throw new UsageError(
        `IOMMU group ${id} has functions of ${[...named].join(" and ")}, and VFIO gives a group to one owner only: ${members.join(", ")}`,
      );
    }
    const driven = members.flatMap((address) => {
      const fn = functions.get(address);
      const free =
        fn?.driver === undefined || leavesGroupViable(fn.driver) || fn.headerType === 1 || owners.has(address);
      return free ? [] : [`${address} (${fn.driver})`];
    });
    if (driven.length === 0) continue;
    const [owner] = named;
    const addresses = driven.map((each) => each.split(" ")[0]).join(",");
    throw new UsageError(
      `IOMMU group ${id} is not viable for VFIO, because drivers of this host have others of its functions: ${driven.join(", ")}; add them (--assign ${owner}=...,${addresses}) or unbind their drivers`,
    );
  }
}
