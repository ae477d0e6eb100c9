import { VfioError } from "../vfio/index.js";
import { HEADER_SIZE } from "./header.js";
import { REGION_ACCESS_SIZE } from "./region_access.js";
import { type Capabilities, VERSION_MAJOR, VERSION_MINOR, type Version } from "./version.js";

/** Bytes of data that the server takes or gives in one message. */
export const MAX_DATA_XFER_SIZE = 1 << 20;
/** The largest message either side sends: a header, a region access and its data. */
export const MAX_MESSAGE = HEADER_SIZE + REGION_ACCESS_SIZE + MAX_DATA_XFER_SIZE;
/** Descriptors that the server takes in one message: QEMU accepts no server that says more. */
export const MAX_MSG_FDS = 16;
/** DMA ranges that a client may have at once. */
export const MAX_DMA_MAPS = 65535;
/**
 * Files that a client's DMA ranges may lie in: each costs a descriptor for as long as it is used, and a process has only
 * so many. A virtual machine has a handful.
 */
export const MAX_DMA_FILES = 256;
/** How long a device may take to reset, and for what it does before a client comes and after one went, in milliseconds. */
export const RESET_TIMEOUT = 30_000;
/** Any alignment would do; clients want to hear of the page size. */
const PGSIZES = 4096;

/**
 * The server's answer to a client's proposal: only capabilities that the client mentioned.
 * @throws {VfioError} EINVAL for another major version
 */
export function negotiate(major: number, minor: number, proposed: Capabilities): Version {
  if (major !== VERSION_MAJOR || minor < VERSION_MINOR) {
    throw new VfioError("EINVAL", `the client speaks ${major}.${minor}, not ${VERSION_MAJOR}.${VERSION_MINOR}`);
  }
  const capabilities: Capabilities = {};
  if (proposed.maxMsgFds !== undefined) capabilities.maxMsgFds = MAX_MSG_FDS;
  if (proposed.maxDataXferSize !== undefined) capabilities.maxDataXferSize = MAX_DATA_XFER_SIZE;
  if (proposed.maxDmaMaps !== undefined) capabilities.maxDmaMaps = MAX_DMA_MAPS;
  if (proposed.pgsizes !== undefined) capabilities.pgsizes = PGSIZES;
  if (proposed.writeMultiple !== undefined) capabilities.writeMultiple = proposed.writeMultiple;
  // The twin socket is a descriptor, which a client may say that it takes none of.
  if (proposed.twinSocket?.supported === true && proposed.maxMsgFds !== 0)
    capabilities.twinSocket = { supported: true, fdIndex: 0 };
  return { major: VERSION_MAJOR, minor: VERSION_MINOR, capabilities };
}
