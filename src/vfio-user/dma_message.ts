import { viewOf } from "./header.js";

export const DMA_MAP_SIZE = 32;
export const DMA_UNMAP_SIZE = 24;
/** Bytes before the data of DMA_READ and DMA_WRITE. */
export const DMA_ACCESS_SIZE = 16;

/** DMA_MAP: a range of the client's memory that the server may reach from now on. */
export interface DmaMap {
  argsz: number;
  /** VFIO_DMA_MAP_FLAG_* */
  flags: number;
  /** Where the range begins in the file whose descriptor comes along. */
  offset: bigint;
  address: bigint;
  size: bigint;
}

/** DMA_UNMAP, and its reply. */
export interface DmaUnmap {
  argsz: number;
  /** VFIO_DMA_UNMAP_FLAG_* */
  flags: number;
  address: bigint;
  size: bigint;
}

/** What DMA_READ, DMA_WRITE and their replies begin with. */
export interface DmaAccess {
  address: bigint;
  count: bigint;
}

export function encodeDmaMap(map: DmaMap): Uint8Array {
  const bytes = new Uint8Array(DMA_MAP_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, map.argsz, true);
  view.setUint32(4, map.flags, true);
  view.setBigUint64(8, map.offset, true);
  view.setBigUint64(16, map.address, true);
  view.setBigUint64(24, map.size, true);
  return bytes;
}

/** @throws {VfioError} EINVAL when bytes are missing, as all decoders here */
export function decodeDmaMap(bytes: Uint8Array): DmaMap {
  const view = viewOf(bytes, DMA_MAP_SIZE, "DMA_MAP");
  return {
    argsz: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    offset: view.getBigUint64(8, true),
    address: view.getBigUint64(16, true),
    size: view.getBigUint64(24, true),
  };
}

export function encodeDmaUnmap(unmap: DmaUnmap): Uint8Array {
  const bytes = new Uint8Array(DMA_UNMAP_SIZE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, unmap.argsz, true);
  view.setUint32(4, unmap.flags, true);
  view.setBigUint64(8, unmap.address, true);
  view.setBigUint64(16, unmap.size, true);
  return bytes;
}

export function decodeDmaUnmap(bytes: Uint8Array): DmaUnmap {
  const view = viewOf(bytes, DMA_UNMAP_SIZE, "DMA_UNMAP");
  return {
    argsz: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    address: view.getBigUint64(8, true),
    size: view.getBigUint64(16, true),
  };
}

/** The fixed part, for the data to follow. */
export function encodeDmaAccess(access: DmaAccess): Uint8Array {
  const bytes = new Uint8Array(DMA_ACCESS_SIZE);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, access.address, true);
  view.setBigUint64(8, access.count, true);
  return bytes;
}

export function decodeDmaAccess(bytes: Uint8Array): DmaAccess {
  const view = viewOf(bytes, DMA_ACCESS_SIZE, "DMA access");
  return { address: view.getBigUint64(0, true), count: view.getBigUint64(8, true) };
}
