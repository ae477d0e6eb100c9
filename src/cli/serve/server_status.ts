import type { Ledger } from "../../fence/ledger.js";
import type { ServerEvent } from "../../vfio-user/endpoint.js";
import type { ServingEvent, ServingStatus } from "./messages.js";

/** What a server tells of itself while it runs. */
export type WorkerEvent = ServerEvent | ServingEvent;

/** A change that was asked for over HTTP was refused. */
export interface RejectedChange {
  kind: "rejected";
  /** The address it came from. */
  of: string;
  /** `POST`, `DELETE` ... */
  method: string;
  /** What it was answered. */
  status: number;
  message: string;
}

/** Who has changed assignments, and over what. */
export type Changer = { over: "control socket" } | { over: "http"; from: string };

/** The status with what only the main thread knows. */
export interface ServerStatus extends ServingStatus {
  pid: number;
  /** ISO 8601. */
  startedAt: string;
  socketDir: string;
  stateDir: string;
  ledger: Ledger;
  /** Where the page is, if there is one. */
  http?: { url: string };
}
