import {
  VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD,
  VFIO_REGION_INFO_CAP_NVLINK2_SSATGT,
  VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  VFIO_REGION_INFO_CAP_TYPE,
} from "./constants.js";
import { VfioError } from "./error.js";

/** A piece of a region that can be mapped: offset within the region and size, both multiples of the page size. */
export interface SparseArea {
  offset: bigint;
  size: bigint;
}

/** A region info capability (`struct vfio_info_cap_header` and what follows it). */
export type RegionCapability =
  | { kind: "sparse-mmap"; areas: SparseArea[] }
  /** `type` is VFIO_REGION_TYPE_PCI_VENDOR_TYPE with a vendor id, or another type; `subtype` is specific to it. */
  | { kind: "type"; type: number; subtype: number }
  /** The pages of the MSI-X table may be mapped too. */
  | { kind: "msix-mappable" }
  /** Target address of the GPU's memory on the link, on an NVLink2 bridge or GPU. */
  | { kind: "nvlink2-ssatgt"; tgt: bigint }
  /** Link speed as the device tree gives it (`ibm,nvlink-speed`). */
  | { kind: "nvlink2-lnkspd"; linkSpeed: number }
  | { kind: "other"; id: number; version: number; data: Uint8Array };

const HEADER_SIZE = 8;
const KNOWN_IDS: Readonly<Record<Exclude<RegionCapability["kind"], "other">, number>> = {
  "sparse-mmap": VFIO_REGION_INFO_CAP_SPARSE_MMAP,
  type: VFIO_REGION_INFO_CAP_TYPE,
  "msix-mappable": VFIO_REGION_INFO_CAP_MSIX_MAPPABLE,
  "nvlink2-ssatgt": VFIO_REGION_INFO_CAP_NVLINK2_SSATGT,
  "nvlink2-lnkspd": VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD,
};

function encodeBody(capability: RegionCapability): Uint8Array {
  switch (capability.kind) {
    case "sparse-mmap": {
      const words = capability.areas.flatMap((area) => [area.offset, area.size]);
      return new Uint8Array(new BigUint64Array([BigInt(capability.areas.length), ...words]).buffer);
    }
    case "type":
      return new Uint8Array(new Uint32Array([capability.type, capability.subtype]).buffer);
    case "msix-mappable":
      return new Uint8Array(0);
    case "nvlink2-ssatgt":
      return new Uint8Array(new BigUint64Array([capability.tgt]).buffer);
    case "nvlink2-lnkspd":
      return new Uint8Array(new Uint32Array([capability.linkSpeed, 0]).buffer);
    case "other":
      return capability.data;
  }
}

/**
 * Capabilities as a chain whose `next` offsets count from the start of the info structure.
 * @param start offset at which the chain will lie in that structure
 */
export function encodeCapabilityChain(capabilities: readonly RegionCapability[], start: number): Uint8Array {
  const bodies = capabilities.map(encodeBody);
  const sizes = bodies.map((body) => HEADER_SIZE + Math.ceil(body.length / 8) * 8);
  const bytes = new Uint8Array(sizes.reduce((sum, size) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [index, capability] of capabilities.entries()) {
    const size = sizes[index] ?? 0;
    view.setUint16(at, capability.kind === "other" ? capability.id : KNOWN_IDS[capability.kind], true);
    view.setUint16(at + 2, capability.kind === "other" ? capability.version : 1, true);
    view.setUint32(at + 4, index + 1 < capabilities.length ? start + at + size : 0, true);
    bytes.set(bodies[index] ?? [], at + HEADER_SIZE);
    at += size;
  }
  return bytes;
}

function decodeBody(id: number, version: number, body: Uint8Array, at: number): RegionCapability {
  const view = new DataView(body.buffer, body.byteOffset, body.length);
  const need = (size: number) => {
    if (body.length < size) {
      throw new VfioError("EINVAL", `region capability ${id} at ${at} needs ${size} bytes, ${body.length} are there`);
    }
  };
  if (version !== 1) return { kind: "other", id, version, data: body.slice() };
  switch (id) {
    case VFIO_REGION_INFO_CAP_SPARSE_MMAP: {
      need(8);
      const count = view.getUint32(0, true);
      need(8 + 16 * count);
      const areas = Array.from({ length: count }, (_, index) => ({
        offset: view.getBigUint64(8 + 16 * index, true),
        size: view.getBigUint64(16 + 16 * index, true),
      }));
      return { kind: "sparse-mmap", areas };
    }
    case VFIO_REGION_INFO_CAP_TYPE:
      need(8);
      return { kind: "type", type: view.getUint32(0, true), subtype: view.getUint32(4, true) };
    case VFIO_REGION_INFO_CAP_MSIX_MAPPABLE:
      return { kind: "msix-mappable" };
    case VFIO_REGION_INFO_CAP_NVLINK2_SSATGT:
      need(8);
      return { kind: "nvlink2-ssatgt", tgt: view.getBigUint64(0, true) };
    case VFIO_REGION_INFO_CAP_NVLINK2_LNKSPD:
      need(4);
      return { kind: "nvlink2-lnkspd", linkSpeed: view.getUint32(0, true) };
    default:
      return { kind: "other", id, version, data: body.slice() };
  }
}

/**
 * The capabilities of an info structure.
 * @param bytes the whole structure, capabilities included
 * @param start offset of the first one in it
 * @throws {VfioError} EINVAL for a chain that leaves the structure, goes backwards or loops
 */
export function decodeCapabilityChain(bytes: Uint8Array, start: number): RegionCapability[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const capabilities: RegionCapability[] = [];
  let at = start;
  while (at !== 0) {
    if (at + HEADER_SIZE > bytes.length) throw new VfioError("EINVAL", `region capability at ${at} lies outside`);
    const next = view.getUint32(at + 4, true);
    // Ascending only: that is how everybody builds chains, and it cannot loop.
    if (next !== 0 && next < at + HEADER_SIZE) {
      throw new VfioError("EINVAL", `region capability at ${at} points back to ${next}`);
    }
    const end = next === 0 ? bytes.length : Math.min(next, bytes.length);
    const body = bytes.subarray(at + HEADER_SIZE, end);
    capabilities.push(decodeBody(view.getUint16(at, true), view.getUint16(at + 2, true), body, at));
    at = next;
  }
  return capabilities;
}
