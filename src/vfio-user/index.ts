export {
  createEventfd,
  createMemfd,
  drainEventfd,
  Fd,
  FfiMissingError,
  Mapping,
  OsError,
  signalEventfd,
} from "../os/index.js";
export * from "./client.js";
export type { SharedMemory } from "./client_dma.js";
export * from "./dma_message.js";
export type { Occupant, ServerEvent } from "./endpoint.js";
export * from "./header.js";
export * from "./migration.js";
export * from "./region_access.js";
export * from "./region_io_fds.js";
export * from "./running_server.js";
export * from "./server.js";
export * from "./version.js";
export type { CreateDevices, Serving } from "./worker_protocol.js";
