import type { Ledger } from "../../fence/ledger.js";
import type { ServerEvent } from "../../vfio-user/endpoint.js";
import type { ServingEvent, ServingStatus } from "./messages.js";

/** What a server tells of itself while it runs. */
export type WorkerEvent = ServerEvent | ServingEvent;

/** The status with what only the main thread knows. */
export interface ServerStatus extends ServingStatus {
  pid: number;
  /** ISO 8601. */
  startedAt: string;
  socketDir: string;
  stateDir: string;
  ledger: Ledger;
}
