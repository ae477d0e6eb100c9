import type { Seen } from "../cli/serve/messages.js";
import type { StatusJson } from "../cli/serve/serving_json.js";

/** What to paste for one assignment. */
export interface PageSnippet {
  name: string;
  /** What follows `qemu-system-x86_64 -machine q35 ...`, for a POSIX shell. */
  qemu: string;
  /** A libvirt domain's XML, without what every domain has. */
  libvirt: string;
}

/** What is at one moment. */
export interface PageState extends Seen {
  status: StatusJson;
  snippets: PageSnippet[];
}

/** Something that happened, as `serve --json` logs it. */
export interface PageEvent {
  /** Ascending from 1. */
  number: number;
  /** ISO 8601. */
  time: string;
  /** `fence`, `connect` ... */
  event: string;
  [field: string]: unknown;
}

/** All that a page needs to begin with. */
export interface Snapshot {
  /** The text of a capture: the machine as it was described. */
  machine: string;
  planning: { includeHost: boolean; isolateNvlink?: boolean };
  state: PageState;
  /** The last of what happened, the oldest first. */
  history: PageEvent[];
}
