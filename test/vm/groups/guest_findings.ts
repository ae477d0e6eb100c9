import assert, { AssertionError } from "node:assert/strict";
import { gunzipSync } from "node:zlib";
import type { Audit } from "../../../src/isolation/findings.js";
import type { Isolation } from "../../../src/isolation/isolation.js";

type Sets = readonly (readonly string[])[];

/** What a guest sends; see `groups_guest.mjs`. */
export interface GuestFindings {
  /** Of each function the folders from its root bus (`pci0000:00`) down to its own. */
  paths: Record<string, string[]>;
  /** The kernel's groups, read without linkfence. */
  kernel: string[][];
  groups: Isolation & { machine: string };
  audit: Audit & { machine: string };
  /** Contents of the capture file. */
  capture: string;
}

export function readFindings(text: string): GuestFindings {
  return JSON.parse(gunzipSync(Buffer.from(text, "base64")).toString("utf8"));
}

/** The functions at a slot of the first root bus and below, and those of whole other root buses. */
export function functionsAt({ paths }: GuestFindings, slot: number, rootBuses: readonly number[]): string[] {
  const roots = new Set(rootBuses.map((bus) => `pci0000:${hex(bus)}`));
  const device = `0000:00:${hex(slot)}.`;
  return Object.entries(paths)
    .filter(([, [root = "", top = ""]]) => roots.has(root) || (root === "pci0000:00" && top.startsWith(device)))
    .map(([address]) => address);
}

export function hex(number: number): string {
  return number.toString(16).padStart(2, "0");
}

/** The sets that have one of some members, whole. */
export function setsWith(sets: Sets, members: readonly string[]): Sets {
  const wanted = new Set(members);
  return sets.filter((set) => set.some((member) => wanted.has(member)));
}

/** @throws AssertionError, which shows the sets that only one side has, when they are not the same sets of members */
export function assertSameSets(ours: Sets, kernels: Sets): void {
  const [left, right] = [spelled(ours), spelled(kernels)];
  const only = (own: string[], other: string[]) => own.filter((set) => !other.includes(set)).map((set) => `{${set}}`);
  const difference = `ours: ${only(left, right).join(" ")}; the kernel's: ${only(right, left).join(" ")}`;
  assert.equal(left.join("\n"), right.join("\n"), new AssertionError({ message: difference }));
}

function spelled(sets: Sets): string[] {
  return sets.map((set) => [...set].sort().join(" ")).sort();
}
