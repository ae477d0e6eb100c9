import { planJson } from "../cli/command/plan.js";

import type { ServerStatus } from "../cli/serve/server_status.js";
import { type ServedJson, servedJson } from "../cli/serve/serving_json.js";
import { parseAssignments } from "../isolation/assignment.js";
import { audit } from "../isolation/findings.js";
import { isolation } from "../isolation/isolation.js";
import { makePlan } from "../isolation/plan.js";
import { writeCapture } from "../machine/capture.js";
import type { Assignment, Machine } from "../machine/machine.js";
import { layOut } from "../picture/layout.js";
import { linkCount, MOST_LINKS } from "../picture/most_links.js";
import { pictureOf } from "../picture/picture.js";
import { toSvg } from "../picture/svg.js";
import { BlindError, type Look } from "./looks.js";
import type { Watched } from "./watched.js";

type Planning = Watched["planning"];

/** As `linkfence audit --json`, of this moment. */
export function auditOf({ machine, status }: Look, planning: Planning): object {
  return { ...headOf(machine), ...audit(machine, assignmentsOf(status), isolationOptions(planning)) };
}

/** As `linkfence groups --json`, of this moment. */
export function groupsOf({ machine }: Look, planning: Planning): object {
  return { ...headOf(machine), ...isolation(machine, isolationOptions(planning)) };
}

/**
 * As `linkfence plan --json`, for the machine as it is at this moment.
 * @param texts `NAME=GPU,...`; the assignments of this moment when there are none
 * @throws AssignmentError
 */
export function planOf({ machine, status }: Look, planning: Planning, texts: readonly string[]): object {
  const assignments = texts.length === 0 ? assignmentsOf(status) : parseAssignments(machine, texts);
  return planJson(makePlan(machine, assignments, planning));
}

/** A capture file of this moment. */
export function captureOf({ machine, status }: Look): string {
  return writeCapture({ ...machine, assignments: assignmentsOf(status) }, new Date().toISOString());
}

/** What is served, with what to paste in either form. */
export function servedOf(status: ServerStatus): ServedJson {
  const libvirt = new Map(servedJson(status, "libvirt").assignments.map((each) => [each.name, each.libvirt ?? ""]));
  const served = servedJson(status, "qemu");
  const assignments = served.assignments.map((each) => ({ ...each, libvirt: libvirt.get(each.name) ?? "" }));
  return { ...served, assignments };
}

/** The picture of what is now; the same is not drawn twice. */
export class DrawnPicture {
  #version = 0;
  #svg = "";

  /** @throws BlindError for more links than anybody could see */
  of({ machine, status, version }: Look, planning: Planning): string {
    if (version === this.#version) return this.#svg;
    const links = linkCount(machine);
    if (links > MOST_LINKS) throw new BlindError(`${links} links are too many for a picture (${MOST_LINKS} at most)`);
    this.#svg = toSvg(layOut(pictureOf(machine, assignmentsOf(status), isolationOptions(planning))));
    this.#version = version;
    return this.#svg;
  }
}

function headOf({ name, virtual }: Machine): object {
  return { machine: name, ...(virtual && { virtual: true }) };
}

function assignmentsOf({ assignments }: ServerStatus): Assignment[] {
  return assignments.map(({ name, members }) => ({ name, members }));
}

function isolationOptions({ isolateNvlink }: Planning): { isolateNvlink?: boolean } {
  return isolateNvlink === undefined ? {} : { isolateNvlink };
}
