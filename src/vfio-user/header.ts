import { VfioError } from "../vfio/index.js";

/** Commands of the protocol (docs/interop/vfio-user.rst in QEMU, "Commands"). */
export const Command = {
  VERSION: 1,
  DMA_MAP: 2,
  DMA_UNMAP: 3,
  DEVICE_GET_INFO: 4,
  DEVICE_GET_REGION_INFO: 5,
  DEVICE_GET_REGION_IO_FDS: 6,
  DEVICE_GET_IRQ_INFO: 7,
  DEVICE_SET_IRQS: 8,
  REGION_READ: 9,
  REGION_WRITE: 10,
  /** From server to client, as DMA_WRITE. */
  DMA_READ: 11,
  DMA_WRITE: 12,
  DEVICE_RESET: 13,
  REGION_WRITE_MULTI: 15,
  DEVICE_FEATURE: 16,
  MIG_DATA_READ: 17,
  MIG_DATA_WRITE: 18,
} as const;

export type Command = (typeof Command)[keyof typeof Command];

const NAMES = new Map<number, string>(Object.entries(Command).map(([name, number]) => [number, name]));

/** A command's name, or its number for an unknown one. */
export function commandName(command: number): string {
  return NAMES.get(command) ?? `command ${command}`;
}

/** Bytes of the header that every message begins with. */
export const HEADER_SIZE = 16;

/** Where the header's fields are, for code that reads them in place. */
export const HEADER_ID = 0;
export const HEADER_COMMAND = 2;
export const HEADER_MESSAGE_SIZE = 4;
export const HEADER_FLAGS = 8;
export const HEADER_ERROR = 12;

export const FLAG_TYPE_MASK = 0xf;
export const FLAG_TYPE_COMMAND = 0;
export const FLAG_TYPE_REPLY = 1;
export const FLAG_NO_REPLY = 0x10;
export const FLAG_ERROR = 0x20;

/** The header of a message. */
export interface Header {
  /** The sender's own, 16 bits; a reply repeats it. */
  id: number;
  command: number;
  /** Bytes of the whole message, header included. */
  size: number;
  flags: number;
  /** Errno value in a reply with the error flag. */
  error: number;
}

/** Writes a header without allocating. */
export function putHeader(view: DataView, id: number, command: number, size: number, flags: number, error = 0): void {
  view.setUint16(HEADER_ID, id, true);
  view.setUint16(HEADER_COMMAND, command, true);
  view.setUint32(HEADER_MESSAGE_SIZE, size, true);
  view.setUint32(HEADER_FLAGS, flags, true);
  view.setUint32(HEADER_ERROR, error, true);
}

export function encodeHeader(header: Header): Uint8Array {
  const bytes = new Uint8Array(HEADER_SIZE);
  putHeader(new DataView(bytes.buffer), header.id, header.command, header.size, header.flags, header.error);
  return bytes;
}

/** @throws {VfioError} EINVAL when there are fewer than {@link HEADER_SIZE} bytes */
export function decodeHeader(bytes: Uint8Array): Header {
  const view = viewOf(bytes, HEADER_SIZE, "header");
  return {
    id: view.getUint16(HEADER_ID, true),
    command: view.getUint16(HEADER_COMMAND, true),
    size: view.getUint32(HEADER_MESSAGE_SIZE, true),
    flags: view.getUint32(HEADER_FLAGS, true),
    error: view.getUint32(HEADER_ERROR, true),
  };
}

/**
 * A view of a structure of at least `size` bytes.
 * @throws {VfioError} EINVAL, naming `what`, when there are fewer
 */
export function viewOf(bytes: Uint8Array, size: number, what: string): DataView {
  if (bytes.length < size) {
    throw new VfioError("EINVAL", `${what} of ${bytes.length} bytes, at least ${size} are needed`);
  }
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
