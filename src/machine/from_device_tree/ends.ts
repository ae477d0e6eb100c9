import { walk } from "../../devicetree/path.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";

/** Properties that only the functions at the ends of NVLinks have: GPUs and NPU bridges (skiboot doc/device-tree/nvlink.rst). */
const PROPERTIES = ["ibm,npu", "ibm,nvlink-peers", "ibm,gpu", "ibm,nvlink"] as const;

/** Whether the node is a GPU or an NPU bridge by its NVLink properties. */
export function isNvlinkEnd(node: DeviceTreeNode): boolean {
  return PROPERTIES.some((name) => node.properties.has(name));
}

/** All nodes that have an NVLink end somewhere below them. Time is linear in the tree. */
export function nvlinkAncestors(root: DeviceTreeNode): ReadonlySet<DeviceTreeNode> {
  const parents = new Map<DeviceTreeNode, DeviceTreeNode | undefined>();
  const ancestors = new Set<DeviceTreeNode>();
  for (const { node, parent } of walk(root)) {
    parents.set(node, parent);
    if (!isNvlinkEnd(node)) continue;
    for (let above = parent; above !== undefined && !ancestors.has(above); above = parents.get(above)) {
      ancestors.add(above);
    }
  }
  return ancestors;
}
