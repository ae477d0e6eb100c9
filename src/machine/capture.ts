import { getDotPath, safeParse } from "valibot";
import { captureSchema } from "./capture_schema.js";
import { MachineError } from "./error.js";
import { identifyGpu } from "./gpu_part.js";
import { linkState } from "./link_state.js";
import { type Gpu, type Link, MACHINE_VERSION, type Machine } from "./machine.js";
import { partFacts } from "./part.js";

/** Most characters of a file that an error quotes. */
const MAX_QUOTED = 200;

/** Class code of a display controller. */
const DISPLAY_CONTROLLER = 0x030000;

/**
 * The text of a capture file: the machine with 64-bit numbers and registers as hexadecimal strings.
 * @param capturedAt ISO 8601 time of the capture.
 */
export function writeCapture(machine: Machine, capturedAt: string): string {
  const file = { linkfence: "capture", version: MACHINE_VERSION, capturedAt, machine };
  return `${JSON.stringify(file, hexadecimal, 2)}\n`;
}

/**
 * Reads a capture file and checks all of it: types, ranges, that names and addresses are unique, and that no GPU is called
 * another part than its function is. Link states are taken from the evidence, so that a file cannot claim a cut link
 * without registers that show it; links of a part that the file leaves out are there with unknown far ends.
 * @throws MachineError (`ECAPTURE`) that names the field; (`ECAPTURE_VERSION`) for another version of the format.
 */
export function readCapture(text: string): Machine {
  const file = parseJson(text);
  if (typeof file !== "object" || file === null || !("linkfence" in file) || file.linkfence !== "capture") {
    throw new MachineError('no capture file: expected JSON with "linkfence": "capture"', "ECAPTURE");
  }
  if (!("version" in file) || file.version !== MACHINE_VERSION) {
    const version = "version" in file ? JSON.stringify(file.version)?.slice(0, 40) : "none";
    throw new MachineError(
      `capture version ${version} is not supported, this linkfence reads version ${MACHINE_VERSION}`,
      "ECAPTURE_VERSION",
    );
  }
  const result = safeParse(captureSchema, file, { abortEarly: true });
  if (!result.success) {
    const [issue] = result.issues;
    throw damaged(`${shortened(getDotPath(issue) ?? "file")}: ${issue.message}`);
  }
  const machine: Machine = result.output.machine;
  checkUnique(machine);
  checkParts(machine);
  return { ...machine, gpus: machine.gpus.map((gpu) => ({ ...gpu, links: linksOf(gpu) })) };
}

function linksOf(gpu: Gpu): Link[] {
  const links = gpu.links.map((link) => ({ ...link, state: linkState(gpu, link) }));
  const count = partFacts(gpu.part)?.links ?? 0;
  if (links.length === 0 || links.length >= count) return links;
  const listed = new Set(links.map((link) => link.number));
  for (let number = 0; number < count; number++) {
    if (!listed.has(number)) links.push({ number, far: { kind: "unknown" }, state: "unknown", origin: gpu.origin });
  }
  return links;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new MachineError("no capture file: it is not JSON", "ECAPTURE");
  }
}

function checkUnique(machine: Machine): void {
  const functions = unique(
    "functions",
    machine.functions.map((fn) => fn.address),
  );
  unique(
    "gpus",
    machine.gpus.map((gpu) => gpu.address),
  );
  unique(
    "GPU names",
    machine.gpus.map((gpu) => gpu.name.toLowerCase()),
  );
  unique(
    "bridges",
    machine.bridges.map((bridge) => bridge.address),
  );
  unique(
    "memory of GPUs",
    machine.memory.map((memory) => memory.gpu),
  );
  unique("assignments", machine.assignments?.map((assignment) => assignment.name) ?? []);
  unique("members of groups", machine.groups?.flatMap((group) => group.members) ?? []);
  for (const gpu of machine.gpus) {
    if (!functions.has(gpu.address)) throw damaged(`GPU ${gpu.name} at ${gpu.address} is none of the functions`);
    unique(
      `links of ${gpu.name}`,
      gpu.links.map((link) => link.number),
    );
  }
  for (const { name, members } of machine.assignments ?? []) {
    unique(`assignment ${name}`, members);
    if (name === "host") throw damaged('an assignment is called "host", which is reserved');
    for (const member of members) {
      if (!functions.has(member)) throw damaged(`assignment ${name} has ${member}, which is none of the functions`);
    }
  }
}

/** A part's registers prove something only on that part, and a board that has NVLinks has them whatever a file says. */
function checkParts(machine: Machine): void {
  const functions = new Map(machine.functions.map((fn) => [fn.address, fn]));
  for (const { address, name, part, nvlink } of machine.gpus) {
    const fn = functions.get(address);
    if (fn?.vendorId === undefined || fn.deviceId === undefined) continue;
    const device = `device ${hex16(fn.vendorId)}:${hex16(fn.deviceId)} at ${address}`;
    // By its ids alone, for a name is anybody's word.
    const { name: _, ...nameless } = fn;
    const is = identifyGpu({ ...nameless, classCode: fn.classCode ?? DISPLAY_CONTROLLER });
    const chipKnown = is === undefined || is.part !== "unknown" || is.linkCount !== undefined || is.nvlink === "none";
    if (part !== "unknown" && part !== is?.part && chipKnown) {
      throw damaged(`${name} is called a ${part}, and ${device} is none`);
    }
    if (nvlink === "none" && is?.nvlink === "present") {
      throw damaged(`${name} is said to have no NVLinks, and ${device} has some`);
    }
  }
}

function hex16(value: number): string {
  return value.toString(16).padStart(4, "0");
}

function unique<Key>(what: string, keys: readonly Key[]): Set<Key> {
  const seen = new Set<Key>();
  for (const key of keys) {
    if (seen.has(key)) throw damaged(`${what}: ${key} is there twice`);
    seen.add(key);
  }
  return seen;
}

function damaged(reason: string): MachineError {
  return new MachineError(`damaged capture: ${shortened(reason, 2 * MAX_QUOTED)}`, "ECAPTURE");
}

/** Keys and values that an error quotes are the file's, and may be as long as the file. */
function shortened(text: string, most = MAX_QUOTED): string {
  return text.length > most ? `${text.slice(0, most)}...` : text;
}

function hexadecimal(this: unknown, key: string, value: unknown): unknown {
  if (typeof value === "bigint") return `0x${value.toString(16)}`;
  const register = typeof value === "number" && (key === "value" || (key === "offset" && isRegister(this)));
  return register ? `0x${(value >>> 0).toString(16)}` : value;
}

/** Capabilities have an offset too; only registers have a value beside it. */
function isRegister(holder: unknown): boolean {
  return typeof holder === "object" && holder !== null && "value" in holder;
}
