import type { Fences } from "../../fence/fences.js";
import { HOST, ownersOf } from "../../isolation/assignment.js";
import type { Assignment, Machine } from "../../machine/machine.js";
import type { PciAddress } from "../../pci/address.js";
import type { Steps, VfioDevice } from "../../vfio/index.js";
import type { VfioUserServer } from "../../vfio-user/index.js";
import type { FunctionKind, RegionStatus, ServingStatus } from "./messages.js";

/** A function and who is to have it. */
export interface OwnedFunction {
  address: PciAddress;
  kind: FunctionKind;
  /** An assignment's name. */
  owner: string;
}

/** A function as it is served to its owner. */
export interface ServedFunction extends OwnedFunction {
  /** Absolute path. */
  socket: string;
  /** What the server serves: fenced where it is a GPU, and sharing its owner's DMA space. */
  device: VfioDevice;
  warnings: readonly string[];
}

/** What stands behind the functions that are served: a virtual machine, or functions of this host. */
export interface Hardware {
  readonly fences: Fences;
  /** How BARs get to clients, where that depends. */
  readonly tier?: NonNullable<ServingStatus["tier"]>;

  /** The machine as its description had it, with what has changed of it since, apart from links. */
  current(machine: Machine): Machine;

  /** Has functions ready whose owners are new, before anybody is served. @throws when one cannot be had */
  begin(owned: readonly OwnedFunction[]): Steps;

  /** These functions are served from now on, others no longer: what is not theirs yet becomes so with its next reset. */
  follow(owned: readonly OwnedFunction[]): void;

  /**
   * A function without a fence becomes its new owner's. What has a fence does so when that resets it, for it may be reset
   * only behind its far ends.
   */
  handOver(address: PciAddress): Steps;

  /** Nothing of the last owner's is in the function's memory, and nothing that it still maps is the next one's. */
  clear(address: PciAddress): Steps;

  /** What is served of a function to its owner. Touches nothing. */
  serve(owned: OwnedFunction): ServedFunction;

  /** Bytes of its clients' memory that an owner's functions reach by DMA. */
  pinnedBytes(owner: string): bigint;

  /** How a region's memory gets to a client, where that depends. */
  accessTo?(address: PciAddress, region: number): RegionStatus["access"];

  /** The server is about to run. `remove` ends the serving of a function that is taken away. */
  onServer?(server: VfioUserServer, remove: (address: PciAddress, why: string) => void): void;

  /** Lets everything go. */
  close(): void;
}

/**
 * The functions that are served for these assignments: their GPUs, each followed by its bridges, and then, where `others`
 * says so, the rest of their members.
 */
export function ownedFunctions(
  machine: Machine,
  assignments: readonly Assignment[],
  { others }: { others: boolean },
): OwnedFunction[] {
  const ownerOf = ownersOf(machine, assignments);
  const known = new Set(machine.bridges.map(({ address }) => address));
  const all = machine.gpus.flatMap((gpu): OwnedFunction[] => [
    { address: gpu.address, kind: "gpu", owner: ownerOf(gpu.address) },
    ...gpu.bridges
      .filter((address) => known.has(address))
      .map((address): OwnedFunction => ({ address, kind: "bridge", owner: ownerOf(address) })),
  ]);
  if (others) {
    for (const { name, members } of assignments) {
      for (const address of members) all.push({ address, kind: "other", owner: name });
    }
  }
  const addresses = new Set<PciAddress>();
  return all.filter(({ address, owner }) => {
    const first = !addresses.has(address);
    addresses.add(address);
    return first && owner !== HOST;
  });
}
