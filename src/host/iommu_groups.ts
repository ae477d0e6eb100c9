import type { IommuGroup, Unknown } from "../machine/machine.js";
import { compareAddresses, type PciAddress } from "../pci/address.js";
import type { PciFunction } from "../pci/function.js";
import { Failure, type HostRoot } from "./host_root.js";
import { isCanonical } from "./pci_sysfs.js";

const GROUPS = "sys/kernel/iommu_groups";
const GROUP_ID = /^(?:0|[1-9][0-9]{0,8})$/;

/**
 * The kernel's IOMMU groups by their numbers, members in numeric order of the addresses: the kernel's listing does not
 * keep the order in which they were attached. No groups at all when the kernel formed none.
 */
export function readIommuGroups(
  root: HostRoot,
  functions: readonly PciFunction[],
): { groups?: IommuGroup[]; unknown: Unknown[] } {
  const ids = root.list(GROUPS);
  const unknown: Unknown[] = [];
  const members =
    ids instanceof Failure && ids.errno === "ENOENT"
      ? membersByLinks(root, functions)
      : listedMembers(root, ids, unknown);
  const groups = [...members]
    .map(([id, addresses]) => ({ id, members: addresses.sort(compareAddresses) }))
    .sort((a, b) => a.id - b.id);
  if (groups.length > 0) return { groups, unknown };
  if (functions.length > 0 && unknown.length === 0) unknown.push(NO_GROUPS);
  return { unknown };
}

const NO_GROUPS: Unknown = {
  what: "IOMMU groups: the kernel has formed none for PCI functions, so none can be passed through",
  functions: [],
  action: "switch the IOMMU on in firmware and boot with intel_iommu=on or what the platform wants",
};

function listedMembers(root: HostRoot, ids: string[] | Failure, unknown: Unknown[]): Map<number, PciAddress[]> {
  const groups = new Map<number, PciAddress[]>();
  if (ids instanceof Failure) {
    unknown.push({
      what: `IOMMU groups: /${GROUPS} cannot be read (${ids.errno})`,
      functions: [],
      action: "run as root",
    });
    return groups;
  }
  const unreadable: string[] = [];
  for (const id of ids.filter((name) => GROUP_ID.test(name))) {
    const devices = root.list(`${GROUPS}/${id}/devices`);
    // Devices of other buses (platform devices) are in groups too.
    if (devices instanceof Failure) unreadable.push(id);
    else groups.set(Number(id), devices.filter(isCanonical));
  }
  if (unreadable.length > 0) {
    unknown.push({
      what: `members of IOMMU ${spelled(unreadable)}`,
      functions: [],
      action: "read the host again as root",
    });
  }
  for (const [id, devices] of groups) if (devices.length === 0) groups.delete(id);
  return groups;
}

function spelled(ids: readonly string[]): string {
  const shown = ids.slice(0, 8).join(", ");
  return ids.length === 1 ? `group ${shown}` : `groups ${shown}${ids.length > 8 ? ` and ${ids.length - 8} more` : ""}`;
}

/** A copy of a host that left out the folder of the groups may still have every function's link to its own. */
function membersByLinks(root: HostRoot, functions: readonly PciFunction[]): Map<number, PciAddress[]> {
  const groups = new Map<number, PciAddress[]>();
  for (const { address } of functions) {
    const folder = root.resolve(`sys/bus/pci/devices/${address}`);
    const link = folder instanceof Failure ? folder : root.link(`${folder}/iommu_group`);
    if (link instanceof Failure) continue;
    const id = link.slice(link.lastIndexOf("/") + 1);
    if (!GROUP_ID.test(id)) continue;
    const members = groups.get(Number(id));
    if (members === undefined) groups.set(Number(id), [address]);
    else members.push(address);
  }
  return groups;
}
