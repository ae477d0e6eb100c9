import { basename } from "node:path";
import { numberRuns } from "../../isolation/number_runs.js";
import { paint, table } from "../output.js";
import { type FenceJson, type StatusJson, warningsOf } from "./serving_json.js";
import { peerText, warningLines } from "./serving_text.js";
import { tierNotes } from "./tier.js";

type Functions = StatusJson["functions"];

const GIB = 2 ** 30;

/**
 * The status, for a person: whether all is well, then every GPU's fence, the assignments, and who has which socket.
 * @param now what is today's is told by the clock alone
 */
export function statusLines(status: StatusJson, now = new Date()): string[] {
  const { machine, virtual, tier, pid, startedAt, socketDir, http, functions } = status;
  const since = (time: string | null | undefined) => sinceText(time, now);
  const warnings = warningLines(warningsOf(functions));
  return [
    `${paint("bold", machine)}${virtual === true ? " (virtual)" : ""}: process ${pid} since ${since(startedAt)}, in ${socketDir}`,
    summary(functions),
    ...(http === undefined ? [] : [`to be seen at ${http.url}`]),
    "",
    ...fenceLines(functions, since),
    "",
    ...assignmentLines(status, since),
    ...socketLines(functions, since),
    ...(tier === undefined ? [] : ["", ...tierNotes({ tier, functions })]),
    ...(warnings.length === 0 ? [] : ["", ...warnings]),
  ];
}

function summary(functions: Functions): string {
  const failed = functions.filter(({ fence }) => fence?.state === "failed").length;
  const served = functions.filter(({ socket }) => socket !== null).length;
  const attached = functions.filter(({ client }) => client !== null).length;
  const fences = failed === 0 ? paint("green", "fenced") : paint("red", `${counted(failed, "fence")} failed`);
  return `${fences}, ${counted(served, "function")} served, ${attached === 0 ? "none" : attached} attached`;
}

function fenceLines(functions: Functions, since: (time: string | null) => string): string[] {
  const gpus = functions.flatMap(({ fence, ...rest }) => (fence === undefined ? [] : [{ ...rest, fence }]));
  return [
    table(
      ["GPU", "address", "owner", "fence", "since", "cut", "links up"],
      gpus.map(({ name, address, assignment, fence }) => [
        name,
        address,
        assignment,
        fenceText(fence),
        since(fence.since),
        cutText(fence),
        numberRuns(fence.actual.linksUp ?? []) || "-",
      ]),
    ),
    ...gpus.flatMap(({ name, fence: { reason, stillCut } }) => [
      ...(reason === null ? [] : [paint("red", `${name}: ${reason}`)]),
      ...(stillCut.length === 0 ? [] : [`${name}: links ${stillCut.join(", ")} come up with its next reset only`]),
    ]),
  ];
}

function assignmentLines({ assignments, functions }: StatusJson, since: (time: string) => string): string[] {
  if (assignments.length === 0) return ["nothing is assigned"];
  const nameOf = new Map(functions.map(({ address, name }) => [address, name]));
  return assignments.flatMap(({ name, members, since: time, pinnedBytes, notServed }) => {
    const gpus = members.map((member) => nameOf.get(member) ?? member);
    return [
      `${name} (${gpus.join(" ")}) since ${since(time)}, ${memoryText(Number(pinnedBytes))} of its guest's memory mapped`,
      ...(notServed.length === 0 ? [] : [`${name} also has ${notServed.join(" ")}, which nobody serves`]),
    ];
  });
}

function socketLines(functions: Functions, since: (time: string | undefined) => string): string[] {
  const served = functions.filter(({ socket }) => socket !== null);
  if (served.length === 0) return [];
  const rows = served.map(({ socket, assignment, client }) => [
    basename(socket ?? ""),
    assignment,
    client === null ? "-" : peerText(client),
    since(client?.since),
  ]);
  return ["", table(["socket", "owner", "client", "since"], rows)];
}

function fenceText({ state }: FenceJson): string {
  return paint(state === "in force" ? "green" : state === "failed" ? "red" : "yellow", state);
}

/** The mask that the GPU has, or the links that are cut where a part has none. */
function cutText({ actual: { disableMask, cut } }: FenceJson): string {
  if (cut === null) return "-";
  return disableMask ?? (cut.length === 0 ? "none" : numberRuns(cut));
}

/** Today's by the clock, `Nov 20 05:30` before: a table has little room. */
function sinceText(time: string | null | undefined, now: Date): string {
  if (time === null || time === undefined) return "-";
  const then = new Date(time);
  const [day, clock] = [then.toDateString(), then.toTimeString()];
  return day === now.toDateString() ? clock.slice(0, 8) : `${day.slice(4, 10)} ${clock.slice(0, 5)}`;
}

function memoryText(bytes: number): string {
  return bytes === 0 ? "none" : `${(bytes / GIB).toFixed(bytes < GIB / 10 ? 3 : 1)} GiB`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}
