import type { ConfigRegister } from "./config_registers.js";
import {
  EXPRESS,
  FLR_CAPABLE,
  type StandardBodies,
  standardCapability,
  VENDOR_SPECIFIC,
} from "./standard_capabilities.js";

const EXPRESS_LENGTH = 0x3c;
const VENDOR_LENGTH = 0x10;
/** One lane of 8 GT/s, which stands for no PCIe link there is. */
const LINK = 0x13;
/** Of the link flags: firmware has found the GPU. */
const GPU_LINKED = 1;

/**
 * The capabilities of an NPU bridge, as firmware emulates them (skiboot hw/npu2.c, `npu2_populate_pcie_cap` and
 * `npu2_populate_vendor_cap`). The two registers that train the link read 0.
 */
export function bridgeCapabilities(linkIndex: number, gpuLinked: boolean): StandardBodies {
  return (id, fn, room) => {
    if (id === EXPRESS && room >= EXPRESS_LENGTH) return expressRegisters(fn.express?.functionLevelReset === true);
    if (id === VENDOR_SPECIFIC && room >= VENDOR_LENGTH) return vendorRegisters(linkIndex, gpuLinked);
    return standardCapability(id, fn, room);
  };
}

function expressRegisters(functionLevelReset: boolean): ConfigRegister[] {
  return [
    // Version 2, an endpoint.
    { at: 0x02, size: 2, value: 0x0002 },
    // Payload 128 bytes, no limit on the latencies of L0s and L1.
    { at: 0x04, size: 4, value: (7 << 6) | (7 << 9) | (functionLevelReset ? FLR_CAPABLE : 0) },
    { at: 0x08, size: 2, value: 0x2810, writable: 0x7fff },
    { at: 0x0a, size: 2, clearable: 0x000f },
    { at: 0x0c, size: 4, value: LINK },
    { at: 0x10, size: 2, writable: 0x0fff },
    { at: 0x12, size: 2, value: LINK },
    { at: 0x28, size: 2, writable: 0xffff },
    { at: 0x2c, size: 4, value: 0x7 },
    { at: 0x30, size: 2, value: 0x3, writable: 0xffff },
    { at: 0x32, size: 2, clearable: 0x0020 },
  ];
}

function vendorRegisters(linkIndex: number, gpuLinked: boolean): ConfigRegister[] {
  return [
    // Length and version.
    { at: 0x02, size: 1, value: VENDOR_LENGTH },
    { at: 0x03, size: 1, value: 1 },
    { at: 0x0c, size: 1, value: linkIndex },
    { at: 0x0d, size: 1, value: gpuLinked ? GPU_LINKED : 0 },
  ];
}
