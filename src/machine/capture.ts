import { getDotPath, safeParse } from "valibot";
import { captureSchema } from "./capture_schema.js";
import { MachineError } from "./error.js";
import { linkState } from "./link_state.js";
import { MACHINE_VERSION, type Machine } from "./machine.js";

/**
 * The text of a capture file: the machine with 64-bit numbers and registers as hexadecimal strings.
 * @param capturedAt ISO 8601 time of the capture.
 */
export function writeCapture(machine: Machine, capturedAt: string): string {
  const file = { linkfence: "capture", version: MACHINE_VERSION, capturedAt, machine };
  return `${JSON.stringify(file, hexadecimal, 2)}\n`;
}

/**
 * Reads a capture file and checks all of it: types, ranges, and that names and addresses are unique. Link states are
 * taken from the evidence, so that a file cannot claim a cut link without registers that show it.
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
    throw new MachineError(`damaged capture: ${getDotPath(issue) ?? "file"}: ${issue.message}`, "ECAPTURE");
  }
  const machine: Machine = result.output.machine;
  checkUnique(machine);
  return {
    ...machine,
    gpus: machine.gpus.map((gpu) => ({
      ...gpu,
      links: gpu.links.map((link) => ({ ...link, state: linkState(gpu, link) })),
    })),
  };
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
    if (name === "host") throw damaged('an assignment is called "host", which is reserved');
    for (const member of members) {
      if (!functions.has(member)) throw damaged(`assignment ${name} has ${member}, which is none of the functions`);
    }
  }
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
  return new MachineError(`damaged capture: ${reason}`, "ECAPTURE");
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
