import { basename } from "node:path";
import { paint } from "../output.js";
import { progressLine } from "../progress_line.js";
import type { ToldEvent } from "./event_limit.js";
import { shellLines } from "./qemu_arguments.js";
import type { ServedAssignmentJson, ServedJson } from "./serving_json.js";

/** What to paste for each of these assignments, and what one has to know for it. */
export function pasteLines(assignments: readonly ServedAssignmentJson[]): string[] {
  const lines = assignments.flatMap(({ name, members, functions, qemu, libvirt }) => {
    if (functions.length === 0) return [];
    const what = paint("bold", `${name} (${members.join(" ")})`);
    if (libvirt !== undefined) return ["", `${what}: add to its domain, with virsh edit`, "", libvirt];
    return ["", `${what}: after qemu-system-x86_64 -machine q35 ...`, "", ...shellLines(qemu ?? [])];
  });
  if (lines.length === 0) return [];
  const memory = assignments.some(({ qemu }) => qemu !== undefined)
    ? ["4G is the guest's memory, in both places."]
    : [];
  return [
    ...lines,
    "",
    ...memory,
    "QEMU 10.1 or later has vfio-user-pci; it has to run as the server's user, or in the group of --socket-group.",
  ];
}

/** What is said when a change has been carried out, or when serving begins. */
export function servedLines({ assignments, failures, warnings, notes = [] }: ServedJson): string[] {
  const names = assignments.map(({ name, members }) => `${name} (${members.join(" ")})`);
  const functions = assignments.reduce((sum, each) => sum + each.functions.length, 0);
  const count = `${functions} function${functions === 1 ? "" : "s"}`;
  const what = assignments.length === 0 ? "nothing is assigned" : `serving ${count}: ${names.join(", ")}`;
  const fenced =
    failures.length > 0
      ? [...failures.map((line) => paint("red", line)), what]
      : [`${paint("green", "fenced")}, ${what}`];
  return [...fenced, ...notes, ...warningLines(warnings)];
}

/** One event, for a person who watches. */
export function eventLine(event: ToldEvent): string {
  switch (event.kind) {
    case "fence":
      return progressLine(event.event);
    case "unmodelled":
      return event.what;
    case "notice":
      return `${event.of} ${event.message}`;
    case "removed":
      return `${event.of} ${paint("yellow", "removed")}: this host takes ${event.address} away, it is served no longer`;
    case "rejected":
      return `${event.of} ${paint("yellow", "refused a change")} over HTTP: ${event.message}`;
    case "connect":
      return `${label(event.socket)} connected: ${peerText(event.peer)}`;
    case "refuse":
      return `${label(event.socket)} ${paint("yellow", "refused a second client")}: ${peerText(event.peer)}`;
    case "disconnect":
      return `${label(event.socket)} disconnected: ${event.reason}`;
    case "repeated":
      return `${label(event.of)} ${event.what}: ${event.count} more within a second`;
    case "error":
      return `${label(event.socket)} ${paint("red", "error")}: ${event.message}`;
  }
}

/** Warnings, a line each. */
export function warningLines(warnings: readonly string[]): string[] {
  return warnings.map((warning) => `${paint("yellow", "warning")}: ${warning}`);
}

/** Hours, minutes and seconds here, for logs. */
export function clock(time: Date): string {
  return paint("dim", time.toTimeString().slice(0, 8));
}

function label(socket: string): string {
  return basename(socket, ".sock");
}

/** Who has connected, by the kernel's word. */
export function peerText({ pid, uid, gid }: { pid: number; uid: number; gid: number }): string {
  return `process ${pid}, uid ${uid}, gid ${gid}`;
}
