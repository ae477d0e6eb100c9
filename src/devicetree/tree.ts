/** One node: its name with the unit address (`npu@5011000`; the root's is empty), properties in order, children in order. */
export interface DeviceTreeNode {
  name: string;
  properties: Map<string, Uint8Array>;
  children: DeviceTreeNode[];
}

/** A range of physical memory that must not be used: the header's memory reservation block. */
export interface MemoryReservation {
  address: bigint;
  size: bigint;
}

/** A whole flattened device tree. */
export interface DeviceTree {
  root: DeviceTreeNode;
  reservations: MemoryReservation[];
  /** Physical id of the boot CPU, from the header. */
  bootCpu: number;
}
