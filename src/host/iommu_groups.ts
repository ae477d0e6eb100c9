import type { IommuGroup, Unknown } from "../machine/machine.js";
import { compareAddresses, type PciAddress } from "../pci/address.js";
import { Failure, type HostRoot } from "./host_root.js";
import { isCanonical } from "./pci_sysfs.js";

const GROUPS = "sys/kernel/iommu_groups";
const GROUP_ID = /^(?:0|[1-9][0-9]{0,8})$/;

/**
 * The kernel's IOMMU groups by their numbers, members in numeric order of the addresses: the kernel's listing does not
 * keep the order in which they were attached. No groups at all when the kernel formed none. The kernel says everything
 * twice, and a link per function costs less to read than a folder per group; folders are read of the groups that no
 * function links to.
 * @param folders the resolved folder of each function
 */
export function readIommuGroups(
  root: HostRoot,
  folders: ReadonlyMap<PciAddress, string>,
): { groups?: IommuGroup[]; unknown: Unknown[] } {
  const listed = root.list(GROUPS);
  const members = listed instanceof Failure || listed.length > 0 ? membersByLinks(root, folders) : new Map();
  const unknown = listed instanceof Failure ? [] : addListed(root, listed, members);
  const groups = [...members]
    .map(([id, addresses]) => ({ id, members: addresses.sort(compareAddresses) }))
    .sort((a, b) => a.id - b.id);
  if (groups.length > 0) return { groups, unknown };
  if (folders.size > 0 && unknown.length === 0) unknown.push(noGroups(listed));
  return { unknown };
}

function noGroups(listed: string[] | Failure): Unknown {
  if (listed instanceof Failure && listed.errno !== "ENOENT") {
    return { what: `IOMMU groups: /${GROUPS} cannot be read (${listed.errno})`, functions: [], action: "run as root" };
  }
  return {
    what: "IOMMU groups: the kernel has formed none for PCI functions, so none can be passed through",
    functions: [],
    action: "switch the IOMMU on in firmware and boot with intel_iommu=on or what the platform wants",
  };
}

/** Group numbers by what each function links to. */
function membersByLinks(root: HostRoot, folders: ReadonlyMap<PciAddress, string>): Map<number, PciAddress[]> {
  const groups = new Map<number, PciAddress[]>();
  for (const [address, folder] of folders) {
    const link = root.link(`${folder}/iommu_group`);
    if (link instanceof Failure) continue;
    const id = link.slice(link.lastIndexOf("/") + 1);
    if (!GROUP_ID.test(id)) continue;
    const members = groups.get(Number(id));
    if (members === undefined) groups.set(Number(id), [address]);
    else members.push(address);
  }
  return groups;
}

/** Adds the groups that no function links to, and says which could not be read. */
function addListed(root: HostRoot, ids: readonly string[], groups: Map<number, PciAddress[]>): Unknown[] {
  const unreadable: string[] = [];
  for (const id of ids) {
    if (!GROUP_ID.test(id) || groups.has(Number(id))) continue;
    const devices = root.list(`${GROUPS}/${id}/devices`);
    // Devices of other buses (platform devices) are in groups too.
    const addresses = devices instanceof Failure ? [] : devices.filter(isCanonical);
    if (addresses.length > 0) groups.set(Number(id), addresses);
    if (devices instanceof Failure) unreadable.push(id);
  }
  if (unreadable.length === 0) return [];
  return [{ what: `members of IOMMU ${spelled(unreadable)}`, functions: [], action: "read the host again as root" }];
}

function spelled(ids: readonly string[]): string {
  const shown = ids.slice(0, 8).join(", ");
  return ids.length === 1 ? `group ${shown}` : `groups ${shown}${ids.length > 8 ? ` and ${ids.length - 8} more` : ""}`;
}
