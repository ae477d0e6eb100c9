import { accessSync, constants, statSync } from "node:fs";
import { basename, join } from "node:path";
import type { Command } from "commander";
import type { DeviceTree } from "../devicetree/tree.js";
import { printable } from "../host/printable.js";
import type { Assignment, Machine } from "../machine/machine.js";
import { during } from "./during.js";
import { UsageError } from "./failure.js";
import { defaultStateDir } from "./serve/default_directory.js";

/** Where a command takes its machine from: exactly one of these. */
export interface SourceOptions {
  live?: boolean;
  machine?: string;
  deviceTree?: string;
  capture?: string;
  lspci?: string;
  sysfs?: string;
  nvlink?: string[];
  assign?: string[];
  isolateNvlink?: string | true;
  /** Where the ledger of assignments is; not there for commands that take no heed of it. */
  stateDir?: string;
  json?: boolean;
}

const MIB = 1 << 20;
const DEVICE_TREE_LIMIT = 16 * MIB;
const LSPCI_LIMIT = 32 * MIB;
const NVIDIA_SMI_LIMIT = 4 * MIB;
const CAPTURE_LIMIT = 128 * MIB;

/** Adds the options that name a machine. */
export function addSourceOptions(command: Command): Command {
  return command
    .option("--live", "this host")
    .option("--machine <name>", "a built-in virtual machine: redbud, sequoia, minsky, c4140, dgx1v, hgx-a100-4", once)
    .option(
      "--device-tree <file>",
      "a device tree: .dtb, .dts (needs dtc), or a directory like /proc/device-tree",
      once,
    )
    .option("--capture <file>", "what `linkfence capture` wrote (- for standard input)", once)
    .option("--lspci <file>", "text of lspci -v, -vv, -nn, -xxxx ... (- for standard input)", once)
    .option("--sysfs <root>", "a copy of a host's /sys and /proc below this folder", once)
    .option("--nvlink <file>", "output of nvidia-smi nvlink -p or -R, and topo -m; may be repeated", collect)
    .option("--isolate-nvlink [value]", "as if the kernel was booted with isolate_nvlink (powernv)")
    .option("--json", "print JSON");
}

/** Adds the option that says who owns what. */
export function addAssignOption(command: Command): Command {
  return command.option("--assign <name=gpu,...>", "an assignment: GPUs with one owner; may be repeated", collect);
}

/** Adds the options that say who owns what, the ledger's included. */
export function addIntentOptions(command: Command): Command {
  return addAssignOption(command).option(
    "--state-dir <dir>",
    "where the ledger is, for the assignments that neither --assign nor a capture gives",
    defaultStateDir(),
  );
}

/**
 * Reads the machine that the options name.
 * @throws UsageError when they name none or several; whatever the source throws when it is bad.
 */
export async function readSource(options: SourceOptions): Promise<Machine> {
  const named = [
    options.live === true ? "--live" : undefined,
    options.machine === undefined ? undefined : "--machine",
    options.deviceTree === undefined ? undefined : "--device-tree",
    options.capture === undefined ? undefined : "--capture",
    options.lspci === undefined ? undefined : "--lspci",
    options.sysfs === undefined ? undefined : "--sysfs",
  ].filter((name) => name !== undefined);
  if (named.length === 0) {
    throw new UsageError(
      "name a machine: --live, --machine NAME, --device-tree FILE, --capture FILE, --lspci FILE or --sysfs ROOT",
    );
  }
  if (named.length > 1) throw new UsageError(`name one machine, not ${named.join(" and ")}`);
  const machine = await readMachine(options);
  if (options.nvlink === undefined) return options.live === true ? keptWiring(machine, options) : machine;
  const { readBounded } = await import("../host/read_bounded.js");
  const text = options.nvlink.map((file) => readBounded(file, NVIDIA_SMI_LIMIT).toString("utf8")).join("\n");
  const { applyNvlink } = await import("../machine/nvidia_smi.js");
  try {
    return applyNvlink(machine, { nvlink: text, topo: text });
  } catch (error) {
    if (!(error instanceof Error && "code" in error)) throw error;
    throw new UsageError(`--nvlink ${options.nvlink.join(", ")}: ${error.message}`);
  }
}

/** What NVIDIA's driver said before its GPUs were taken from it. */
async function keptWiring(machine: Machine, { stateDir = defaultStateDir() }: SourceOptions): Promise<Machine> {
  const { withKeptWiring } = await import("./live/kept_wiring.js");
  return withKeptWiring(machine, stateDir);
}

/** Reads a device tree in any of its forms: blob, source or directory. */
export async function readTree(path: string): Promise<DeviceTree> {
  if (isDirectory(path)) {
    const { readDeviceTreeDirectory } = await import("../host/device_tree_directory.js");
    return readDeviceTreeDirectory(path);
  }
  const { readBounded } = await import("../host/read_bounded.js");
  const { readDeviceTree } = await import("../devicetree/read.js");
  const bytes = readBounded(path, DEVICE_TREE_LIMIT);
  if (!/\.dtsi?$/.test(path) && !bytes.subarray(0, 4096).includes("/dts-v1/")) return readDeviceTree(bytes);
  const { compileDeviceTreeSource } = await import("../host/dtc.js");
  return readDeviceTree(compileDeviceTreeSource(path));
}

/** The kernel parameter as given with --isolate-nvlink; undefined leaves it to the machine's own command line. */
export async function isolateNvlinkOption(options: SourceOptions): Promise<{ isolateNvlink?: boolean }> {
  if (options.isolateNvlink === undefined) return {};
  if (options.isolateNvlink === true) return { isolateNvlink: true };
  const { kstrtobool } = await import("../isolation/kernel_parameters.js");
  const on = kstrtobool(options.isolateNvlink);
  if (on === undefined) {
    throw new UsageError(
      `--isolate-nvlink ${options.isolateNvlink}: expected what the kernel takes: 1 y t on, or 0 n f off`,
    );
  }
  return { isolateNvlink: on };
}

/**
 * The assignments: from --assign, else those in the machine's capture, else those in the ledger.
 * @throws AssignmentError when one makes no sense; UsageError when the ledger is damaged.
 */
export async function readAssignments(machine: Machine, options: SourceOptions): Promise<Assignment[]> {
  if (options.assign !== undefined) {
    const { parseAssignments } = await import("../isolation/assignment.js");
    return parseAssignments(machine, options.assign);
  }
  if (machine.assignments !== undefined && machine.assignments.length > 0) return machine.assignments;
  return options.stateDir === undefined ? [] : readLedgerAssignments(machine, options.stateDir, options.live === true);
}

/** What the ledger says of this very machine; what it says of others, or of virtual hardware for a live host, is nothing. */
async function readLedgerAssignments(machine: Machine, stateDir: string, live: boolean): Promise<Assignment[]> {
  if (stateDir === defaultStateDir() && !isReadable(join(stateDir, "ledger.json"))) return [];
  const { isOf, loadLedger } = await import("./serve/ledger_file.js");
  const ledger = loadLedger(stateDir);
  if (ledger === undefined || !isOf(ledger, machine) || (live && ledger.virtual)) return [];
  return ledger.assignments.map(({ name, members }) => ({ name, members }));
}

/**
 * The assignments, of which there must be some.
 * @throws UsageError when neither --assign nor the capture nor the ledger has any.
 */
export async function requireAssignments(machine: Machine, options: SourceOptions): Promise<Assignment[]> {
  const assignments = await readAssignments(machine, options);
  if (assignments.length > 0) return assignments;
  const example = machine.gpus[0]?.name ?? "GPU0";
  throw new UsageError(`say who owns what: --assign NAME=GPU[,GPU...], as in --assign vm1=${example}`);
}

async function readMachine(options: SourceOptions): Promise<Machine> {
  if (options.machine !== undefined) {
    const { builtinMachine } = await import("../machine/builtin.js");
    return builtinMachine(options.machine);
  }
  if (options.deviceTree !== undefined) {
    const { machineFromDeviceTree } = await import("../machine/from_device_tree.js");
    return machineFromDeviceTree(await readTree(options.deviceTree), `device tree ${basename(options.deviceTree)}`);
  }
  if (options.capture !== undefined) {
    const { readBounded } = await import("../host/read_bounded.js");
    const { readCapture } = await import("../machine/capture.js");
    const bytes = readBounded(options.capture, CAPTURE_LIMIT);
    // Looked at before all of it is decoded: a big file that is something else is refused at once.
    const opens = /^\s*\{/.test(bytes.subarray(0, 4096).toString("latin1"));
    return readCapture(opens ? bytes.toString("utf8") : "");
  }
  if (options.lspci !== undefined) {
    const { readBounded } = await import("../host/read_bounded.js");
    const { machineFromLspci } = await import("../machine/from_lspci.js");
    const text = readBounded(options.lspci, LSPCI_LIMIT).toString("utf8");
    return machineFromLspci(text, options.lspci === "-" ? "lspci text" : `lspci text ${basename(options.lspci)}`);
  }
  return readLinux(options);
}

async function readLinux(options: SourceOptions): Promise<Machine> {
  const { readHost } = await import("../host/sysfs_machine.js");
  const root = options.live === true ? "/" : (options.sysfs ?? "/");
  const machine = during(options.live === true ? "reading this host" : `reading ${printable(root)}`, () =>
    readHost(root),
  );
  // nvidia-smi would load the driver if nothing had; a GPU that it does not drive it cannot tell about.
  const driven = machine.functions.some((fn) => fn.driver === "nvidia");
  if (options.live !== true || options.nvlink !== undefined || !driven) return machine;
  const { runNvidiaSmi } = await import("../host/nvidia_smi.js");
  const { nvlink, topo, unknown } = during("asking nvidia-smi where links end", () => runNvidiaSmi());
  const told = { ...machine, unknown: [...machine.unknown, ...unknown] };
  if (nvlink === undefined && topo === undefined) return told;
  const { applyNvlink } = await import("../machine/nvidia_smi.js");
  try {
    return applyNvlink(told, { ...(nvlink !== undefined && { nvlink }), ...(topo !== undefined && { topo }) });
  } catch (error) {
    // What a driver prints is not the user's bad input: the links then stay unknown, and it is said why.
    if (!(error instanceof Error && "code" in error)) throw error;
    const what = `the output of nvidia-smi on this host could not be used: ${error.message}`;
    return { ...told, unknown: [...told.unknown, { what, functions: [], action: "give it with --nvlink FILE" }] };
  }
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

function isDirectory(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch {
    return false;
  }
}

/** A second machine is an error, not a change of mind. */
function once(value: string, previous?: string): string {
  if (value === "") throw new UsageError("the option that names the machine has an empty name");
  if (previous !== undefined) throw new UsageError(`name one machine, not ${previous} and ${value}`);
  return value;
}

/** Of an option that may be repeated. */
export function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}
