import assert from "node:assert/strict";
import type { ServedAssignmentJson } from "../../../src/cli/serve/serving_json.js";
import { VFIO_PCI_BAR0_REGION_INDEX, VFIO_PCI_CONFIG_REGION_INDEX } from "../../../src/vfio/index.js";
import { VfioUserClient } from "../../../src/vfio-user/index.js";

const COMMAND = 0x04;
const COMMAND_MEMORY = 2;
const PCI_BAR0 = 0x10;
const LINK_DISABLE = 0xa00148;

/** Connects to the GPU of an assignment and looks at its disable register first. */
export function firstLook({ functions }: ServedAssignmentJson, mask: number): void {
  const socket = functions.find(({ kind }) => kind === "gpu")?.socket ?? "";
  const client = new VfioUserClient(socket);
  try {
    client.write(VFIO_PCI_CONFIG_REGION_INDEX, PCI_BAR0, Uint8Array.of(0, 0, 0, 0x5a));
    client.write(VFIO_PCI_CONFIG_REGION_INDEX, COMMAND, Uint8Array.of(COMMAND_MEMORY, 0));
    const register = client.read(VFIO_PCI_BAR0_REGION_INDEX, LINK_DISABLE, 4);
    assert.equal(new DataView(register.buffer, register.byteOffset).getUint32(0, true), mask);
  } finally {
    client.close();
  }
}
