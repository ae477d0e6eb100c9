import type { Fence } from "../../fence/fence.js";
import { HOST } from "../../isolation/assignment.js";
import type { Gpu } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import { type VfioDevice, VfioError } from "../../vfio/index.js";
import type { Occupant, VfioUserServer } from "../../vfio-user/index.js";
import type { OwnedFunction, ServedFunction } from "./hardware.js";
import type { ClientStatus, FenceStatus, FunctionStatus, IommuGroupStatus, RegionStatus } from "./messages.js";

/** What the status of each function is told from. */
export interface StatusSources {
  server: VfioUserServer;
  served: ReadonlyMap<PciAddress, ServedFunction>;
  groups: ReadonlyMap<PciAddress, IommuGroupStatus>;
  fenceOf(address: PciAddress): Fence;
  /** Why a function that should be served is not. */
  unserved: ReadonlyMap<PciAddress, string>;
  accessTo(address: PciAddress, region: number): RegionStatus["access"];
}

/** A GPU, served or the host's. Its registers are read. */
export function gpuStatus(sources: StatusSources, { address, name }: Gpu): FunctionStatus {
  const fence = sources.fenceOf(address);
  const base = functionStatus(sources, address);
  return { ...base, name, kind: "gpu", assignment: fence.plan.assignment, fence: fenceStatus(fence) };
}

/** A function that has no fence: an NPU bridge, or anything but a GPU. */
export function unfencedStatus(sources: StatusSources, { address, kind, owner }: OwnedFunction): FunctionStatus {
  return { ...functionStatus(sources, address), name: address, kind, assignment: owner };
}

function functionStatus(
  { server, served, groups, unserved, accessTo }: StatusSources,
  address: PciAddress,
): Omit<FunctionStatus, "name" | "kind" | "assignment"> {
  const function_ = served.get(address);
  const occupant = function_ === undefined ? undefined : server.occupantOf(function_.device);
  const why = unserved.get(address);
  return {
    address,
    socket: function_?.socket ?? null,
    client: occupant === undefined ? null : clientStatus(occupant),
    regions: function_ === undefined ? [] : regionsOf(function_.device, (region) => accessTo(address, region)),
    iommuGroup: groups.get(address) ?? null,
    warnings: [...(function_?.warnings ?? []), ...(why === undefined ? [] : [why])],
  };
}

function clientStatus({ peer, since }: Occupant): ClientStatus {
  return { ...peer, since: new Date(since).toISOString() };
}

/** None of a device that answers EIO to everything. */
function regionsOf(device: VfioDevice, accessTo: (region: number) => RegionStatus["access"]): RegionStatus[] {
  try {
    return device.regions.flatMap((region, index) => {
      if (region === undefined) return [];
      const access = accessTo(index);
      return [{ index, size: region.size, mappable: region.mapping !== undefined, ...(access && { access }) }];
    });
  } catch (error) {
    if (error instanceof VfioError) return [];
    throw error;
  }
}

const NOTHING_READ = { disableMask: null, cut: null, linksUp: null };

function fenceStatus(fence: Fence): FenceStatus {
  fence.readBack();
  const { plan, state } = fence;
  const expected = { disableMask: plan.disableMask, cut: plan.cutLinks };
  const base = { state: state.kind, since: null, expected, actual: NOTHING_READ, stillCut: [], reason: null };
  if (state.kind === "failed") return { ...base, reason: state.reason };
  if (state.kind !== "in force") {
    const reason = plan.untouched && plan.assignment === HOST ? "not to be touched" : null;
    return { ...base, reason };
  }
  const { since, snapshot, stillCut } = state;
  return { ...base, since: new Date(since).toISOString(), actual: snapshot, stillCut: [...stillCut] };
}
