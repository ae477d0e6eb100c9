import { basename } from "node:path";
import { paint, table } from "../output.js";
import { progressLine } from "../progress_line.js";
import type { ToldEvent } from "./event_limit.js";
import { shellLines } from "./qemu_arguments.js";
import {
  type FenceJson,
  type ServedAssignmentJson,
  type ServedJson,
  type StatusJson,
  warningsOf,
} from "./serving_json.js";

/** What to paste for each of these assignments. */
export function pasteLines(assignments: readonly ServedAssignmentJson[]): string[] {
  return assignments.flatMap(({ name, members, qemu, libvirt }) => {
    const what = paint("bold", `${name} (${members.join(" ")})`);
    if (libvirt !== undefined) return ["", `${what}: add to the domain`, "", libvirt];
    const how = "after qemu-system-x86_64 -machine q35 ...; 4G is the guest's memory, in both places";
    return ["", `${what}: ${how}`, "", ...shellLines(qemu ?? [])];
  });
}

/** What is said when a change has been carried out, or when serving begins. */
export function servedLines({ assignments, failures, warnings }: ServedJson): string[] {
  const names = assignments.map(({ name, members }) => `${name} (${members.join(" ")})`);
  const functions = assignments.reduce((sum, each) => sum + each.functions.length, 0);
  const count = `${functions} function${functions === 1 ? "" : "s"}`;
  const what = assignments.length === 0 ? "nothing is assigned" : `serving ${count}: ${names.join(", ")}`;
  const fenced =
    failures.length > 0
      ? [...failures.map((line) => paint("red", line)), what]
      : [`${paint("green", "fenced")}, ${what}`];
  return [...fenced, ...warningLines(warnings)];
}

/** One event, for a person who watches. */
export function eventLine(event: ToldEvent): string {
  switch (event.kind) {
    case "fence":
      return progressLine(event.event);
    case "unmodelled":
      return event.what;
    case "connect":
      return `${label(event.socket)} connected: ${peer(event.peer)}`;
    case "refuse":
      return `${label(event.socket)} ${paint("yellow", "refused a second client")}: ${peer(event.peer)}`;
    case "disconnect":
      return `${label(event.socket)} disconnected: ${event.reason}`;
    case "repeated":
      return `${label(event.of)} ${event.what}: ${event.count} more within a second`;
    case "error":
      return `${label(event.socket)} ${paint("red", "error")}: ${event.message}`;
  }
}

/** The status, for a person. */
export function statusLines(status: StatusJson): string[] {
  const { machine, virtual, pid, startedAt, socketDir, assignments, functions } = status;
  const gpus = functions.flatMap(({ fence, ...rest }) => (fence === undefined ? [] : [{ ...rest, fence }]));
  const served = functions.filter(({ socket }) => socket !== null);
  const warnings = warningLines(warningsOf(functions));
  return [
    `${paint("bold", machine)}${virtual === true ? " (virtual)" : ""}: process ${pid} since ${startedAt}, in ${socketDir}`,
    "",
    table(
      ["GPU", "address", "owner", "fence", "since", "expected", "actual", "links up"],
      gpus.map(({ name, address, assignment, fence }) => [
        name,
        address,
        assignment,
        fenceText(fence),
        fence.since ?? "-",
        shown(fence.expected),
        fence.actual.cut === null ? "-" : shown(fence.actual),
        fence.actual.linksUp?.join(" ") || "-",
      ]),
    ),
    ...gpus.flatMap(({ name, fence }) => (fence.reason === null ? [] : [paint("red", `${name}: ${fence.reason}`)])),
    "",
    ...(assignments.length === 0 ? ["nothing is assigned"] : []),
    ...assignments.map(
      ({ name, since, pinnedBytes }) => `${name} since ${since}, ${pinnedBytes} bytes of its guest's memory mapped`,
    ),
    ...assignments.flatMap(({ name, notServed }) =>
      notServed.length === 0 ? [] : [`${name} also has ${notServed.join(" ")}, which nobody serves`],
    ),
    ...(served.length === 0
      ? []
      : [
          "",
          table(
            ["socket", "owner", "client", "since"],
            served.map(({ socket, assignment, client }) => [
              basename(socket ?? ""),
              assignment,
              client === null ? "-" : peer(client),
              client?.since ?? "-",
            ]),
          ),
        ]),
    ...(warnings.length === 0 ? [] : ["", ...warnings]),
  ];
}

function warningLines(warnings: readonly string[]): string[] {
  return warnings.map((warning) => `${paint("yellow", "warning")}: ${warning}`);
}

/** Hours, minutes and seconds here, for logs. */
export function clock(time: Date): string {
  return paint("dim", time.toTimeString().slice(0, 8));
}

function fenceText({ state }: FenceJson): string {
  return paint(state === "in force" ? "green" : state === "failed" ? "red" : "yellow", state);
}

function shown({ disableMask, cut }: { disableMask: string | null; cut: readonly number[] | null }): string {
  return disableMask ?? (cut === null || cut.length === 0 ? "no links" : `links ${cut.join(",")}`);
}

function label(socket: string): string {
  return basename(socket, ".sock");
}

function peer({ pid, uid, gid }: { pid: number; uid: number; gid: number }): string {
  return `process ${pid}, uid ${uid}, gid ${gid}`;
}
