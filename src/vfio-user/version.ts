import { VfioError } from "../vfio/index.js";
import { viewOf } from "./header.js";

/** The version spoken here: QEMU 11.1 accepts no other. */
export const VERSION_MAJOR = 0;
export const VERSION_MINOR = 0;

/** What a peer is taken to say of a capability that it does not mention. */
export const DEFAULT_MAX_MSG_FDS = 1;
export const DEFAULT_MAX_DATA_XFER_SIZE = 1 << 20;
export const DEFAULT_MAX_DMA_MAPS = 65535;
export const DEFAULT_PGSIZES = 4096;

/** Capabilities as they stand in the version message; what is absent was not mentioned. */
export interface Capabilities {
  /** How many descriptors the sender accepts in one message. */
  maxMsgFds?: number;
  /** How many bytes of data the sender accepts in one message. */
  maxDataXferSize?: number;
  maxDmaMaps?: number;
  /** Page sizes of DMA maps, or'ed together. */
  pgsizes?: number;
  twinSocket?: { supported: boolean; fdIndex?: number };
  writeMultiple?: boolean;
}

/** The first message and its reply. */
export interface Version {
  major: number;
  minor: number;
  capabilities: Capabilities;
}

/** The longest JSON text that is looked at. */
const MAX_TEXT = 4096;

export function encodeVersion(version: Version): Uint8Array {
  const { maxMsgFds, maxDataXferSize, maxDmaMaps, pgsizes, twinSocket, writeMultiple } = version.capabilities;
  const capabilities = {
    max_msg_fds: maxMsgFds,
    max_data_xfer_size: maxDataXferSize,
    max_dma_maps: maxDmaMaps,
    pgsizes,
    twin_socket: twinSocket && { supported: twinSocket.supported, fd_index: twinSocket.fdIndex },
    write_multiple: writeMultiple,
  };
  const text = Buffer.from(`${JSON.stringify({ capabilities })}\0`);
  const bytes = new Uint8Array(4 + text.length);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, version.major, true);
  view.setUint16(2, version.minor, true);
  bytes.set(text, 4);
  return bytes;
}

type Json = Record<string, unknown>;

function objectAt(parent: Json, key: string): Json | undefined {
  const value = parent[key];
  if (value === undefined) return undefined;
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new VfioError("EINVAL", `version data: ${key} is not an object`);
  }
  return value as Json;
}

function numberAt(parent: Json, key: string, minimum: number): number | undefined {
  const value = parent[key];
  if (value === undefined) return undefined;
  // Above 2^53, too: kernel VFIO's way to say that any page size will do is 2^64 - 4096.
  if (typeof value !== "number" || !Number.isInteger(value) || value < minimum) {
    throw new VfioError("EINVAL", `version data: ${key} is not a whole number of at least ${minimum}`);
  }
  return value;
}

function booleanAt(parent: Json, key: string): boolean | undefined {
  const value = parent[key];
  if (value === undefined || typeof value === "boolean") return value;
  throw new VfioError("EINVAL", `version data: ${key} is neither true nor false`);
}

function decodeText(text: Uint8Array): Capabilities {
  if (text.length === 0) return {};
  if (text.length > MAX_TEXT)
    throw new VfioError("EINVAL", `version data of ${text.length} bytes, more than ${MAX_TEXT}`);
  if (text.at(-1) !== 0) throw new VfioError("EINVAL", "version data does not end with NUL");
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text.subarray(0, -1)));
  } catch {
    throw new VfioError("EINVAL", "version data is not JSON");
  }
  const capabilities = objectAt(objectAt({ json } as Json, "json") ?? {}, "capabilities") ?? {};
  const twin = objectAt(capabilities, "twin_socket");
  const found: { [K in keyof Capabilities]: Capabilities[K] | undefined } = {
    maxMsgFds: numberAt(capabilities, "max_msg_fds", 0),
    maxDataXferSize: numberAt(capabilities, "max_data_xfer_size", 1),
    maxDmaMaps: numberAt(capabilities, "max_dma_maps", 0),
    pgsizes: numberAt(capabilities, "pgsizes", 1),
    writeMultiple: booleanAt(capabilities, "write_multiple"),
    twinSocket: twin && decodeTwinSocket(twin),
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value !== undefined));
}

function decodeTwinSocket(twin: Json): { supported: boolean; fdIndex?: number } {
  const fdIndex = numberAt(twin, "fd_index", 0);
  const supported = booleanAt(twin, "supported") ?? false;
  return fdIndex === undefined ? { supported } : { supported, fdIndex };
}

/** @throws {VfioError} EINVAL for anything but the two numbers and, if anything, JSON text as the specification has it */
export function decodeVersion(bytes: Uint8Array): Version {
  const view = viewOf(bytes, 4, "version");
  return {
    major: view.getUint16(0, true),
    minor: view.getUint16(2, true),
    capabilities: decodeText(bytes.subarray(4)),
  };
}
