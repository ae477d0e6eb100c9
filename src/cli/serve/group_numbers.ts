import { isolation } from "../../isolation/isolation.js";
import { powernvGroups } from "../../isolation/powernv_groups.js";
import type { Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import type { IommuGroupStatus } from "./messages.js";

/**
 * The numbers of every function's IOMMU group, as the machine is and as it would be with the kernel's `isolate_nvlink`.
 * Where the kernel has formed no groups they are counted from 0 in the order in which it would form them.
 * @param isolateNvlink as in `IsolationOptions`
 */
export function groupNumbers(machine: Machine, isolateNvlink?: boolean): ReadonlyMap<PciAddress, IommuGroupStatus> {
  const { computed } = isolation(machine, isolateNvlink === undefined ? {} : { isolateNvlink });
  const groups = machine.groups ?? counted(computed);
  const apart = machine.platform === "powernv" ? counted(powernvGroups(machine, true)) : groups;
  const isolated = new Map(apart.flatMap(({ id, members }) => members.map((member) => [member, id] as const)));
  return new Map(
    groups.flatMap(({ id, members }) =>
      members.map((member) => [member, { id, isolated: isolated.get(member) ?? id }] as const),
    ),
  );
}

function counted(groups: readonly PciAddress[][]): { id: number; members: PciAddress[] }[] {
  return groups.map((members, id) => ({ id, members }));
}
