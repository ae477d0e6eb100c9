import { DeviceTreeError } from "../../devicetree/error.js";
import { compatible } from "../../devicetree/path.js";
import type { DeviceTreeNode } from "../../devicetree/tree.js";

/** Whether the node's `compatible` list has the text. A malformed list is compatible with nothing. */
export function isCompatible(node: DeviceTreeNode, text: string): boolean {
  try {
    return compatible(node, text);
  } catch (error) {
    if (error instanceof DeviceTreeError) return false;
    throw error;
  }
}
