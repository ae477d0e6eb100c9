import type { FenceEvent } from "../../fence/progress.js";
import { mask } from "../output.js";
import type { ToldEvent } from "./event_limit.js";
import { libvirtLines } from "./libvirt_xml.js";
import type { AssignmentStatus, FenceStatus, FunctionKind, FunctionStatus, ServingStatus } from "./messages.js";
import { qemuArguments } from "./qemu_arguments.js";
import type { ServerStatus } from "./server_status.js";
import { tierNotes } from "./tier.js";

/** What is printed for pasting. */
export type PrintForm = "qemu" | "libvirt";

/** One assignment as `ready`, `assign` and `release` tell it. */
export interface ServedAssignmentJson {
  name: string;
  /** Names of GPUs, addresses of what else is in it. */
  members: string[];
  /** ISO 8601. */
  since: string;
  functions: { name: string; address: string; kind: FunctionKind; socket: string }[];
  /** Arguments of QEMU, or a libvirt domain. */
  qemu?: string[];
  libvirt?: string;
}

/** What all assignments are now: the reply to `assign` and `release`, and the better part of `ready` and `changed`. */
export interface ServedJson {
  machine: string;
  virtual?: true;
  /** How BARs of functions of a real host get to their VMs. */
  tier?: ServingStatus["tier"];
  /** No fence has failed. */
  fenced: boolean;
  /** Why a fence has failed, a line each. */
  failures: string[];
  /** What served functions go without, a line each. */
  warnings: string[];
  /** What has to be known of functions of a real host, a line each. */
  notes?: string[];
  assignments: ServedAssignmentJson[];
}

/** `status --json`. */
export interface StatusJson {
  machine: string;
  virtual?: true;
  tier?: ServingStatus["tier"];
  pid: number;
  startedAt: string;
  socketDir: string;
  stateDir: string;
  /** Where the page is, if there is one. */
  http?: { url: string };
  fenced: boolean;
  assignments: (AssignmentStatus & { since: string })[];
  functions: (Omit<FunctionStatus, "fence"> & { fence?: FenceJson })[];
}

/** A fence with its masks as registers are written. */
export type FenceJson = Omit<FenceStatus, "expected" | "actual"> & {
  expected: { disableMask: string | null; cut: number[] };
  actual: { disableMask: string | null; cut: number[] | null; linksUp: number[] | null };
};

/** What is served now, and how to attach it. */
export function servedJson(status: ServerStatus, form: PrintForm): ServedJson {
  const nameOf = new Map(status.functions.map(({ address, name, kind }) => [address, kind === "gpu" ? name : address]));
  const failed = failures(status);
  return {
    machine: status.machine,
    ...(status.virtual && { virtual: true as const }),
    ...(status.tier !== undefined && { tier: status.tier }),
    fenced: failed.length === 0,
    failures: failed,
    warnings: warningsOf(status.functions),
    ...(status.tier !== undefined && { notes: tierNotes(status) }),
    assignments: status.ledger.assignments.map(({ name, members, since }) => {
      const served = status.functions.filter(({ assignment, socket }) => assignment === name && socket !== null);
      const functions = served.map(({ name, address, kind, socket }) => ({
        name,
        address,
        kind,
        socket: socket ?? "",
      }));
      const sockets = functions.map(({ socket }) => socket);
      return {
        name,
        members: members.map((member) => nameOf.get(member) ?? member),
        since,
        functions,
        ...(form === "qemu"
          ? { qemu: qemuArguments(sockets, status) }
          : { libvirt: libvirtLines(sockets, status).join("\n") }),
      };
    }),
  };
}

/** The warnings of functions, each with whose it is. */
export function warningsOf(functions: readonly Pick<FunctionStatus, "name" | "address" | "warnings">[]): string[] {
  return functions.flatMap(({ name, address, warnings }) =>
    warnings.map((warning) => `${name === address ? address : `${name} ${address}`}: ${warning}`),
  );
}

/** The whole status. */
export function statusJson(status: ServerStatus): StatusJson {
  const since = new Map(status.ledger.assignments.map((entry) => [entry.name, entry.since]));
  return {
    machine: status.machine,
    ...(status.virtual && { virtual: true as const }),
    ...(status.tier !== undefined && { tier: status.tier }),
    pid: status.pid,
    startedAt: status.startedAt,
    socketDir: status.socketDir,
    stateDir: status.stateDir,
    ...(status.http !== undefined && { http: status.http }),
    fenced: failures(status).length === 0,
    assignments: status.assignments.map((each) => ({ ...each, since: since.get(each.name) ?? status.startedAt })),
    functions: status.functions.map(({ fence, ...rest }) => ({
      ...rest,
      ...(fence !== undefined && { fence: fenceJson(fence) }),
    })),
  };
}

/** What an event says, besides what kind it is. */
export function eventJson(event: ToldEvent): Record<string, unknown> {
  if (event.kind === "fence") return fenceEventJson(event.event);
  const { kind: _, ...rest } = event;
  return rest;
}

function fenceEventJson({ gpu, step, detail, write }: FenceEvent): Record<string, unknown> {
  return {
    gpu,
    step,
    ...(detail !== undefined && { detail }),
    ...(write !== undefined && {
      write: { offset: mask(write.offset), asked: mask(write.asked), written: mask(write.written) },
    }),
  };
}

function failures({ functions }: ServerStatus): string[] {
  return functions.flatMap(({ name, fence }) =>
    fence?.state === "failed" ? [`the fence of ${name} has failed: ${fence.reason ?? "no reason is known"}`] : [],
  );
}

function fenceJson({ expected, actual, ...rest }: FenceStatus): FenceJson {
  return {
    ...rest,
    expected: { ...expected, disableMask: mask(expected.disableMask) },
    actual: { ...actual, disableMask: mask(actual.disableMask) },
  };
}
