import type { LedgerDriver } from "../../fence/ledger.js";
import { memlockLimit } from "../../host/vfio/memlock_limit.js";
import type { Plan } from "../../isolation/plan.js";
import type { Machine } from "../../machine/machine.js";
import { MAX_SOCKET_PATH } from "../../os/index.js";
import type { HttpSettings } from "../../web/http_address.js";
import { UsageError } from "../failure.js";
import { heading } from "../heading.js";
import { requireRoot } from "../live/require_root.js";
import { writeJson, writeLines } from "../output.js";
import { HostFunctions } from "../serve/host_functions.js";
import { ledgerFor } from "../serve/ledger_file.js";
import { hostPageSize } from "../serve/page_size.js";
import { directoryPath } from "../serve/private_directory.js";
import { JsonReporter, type Reporter, TextReporter } from "../serve/reporter.js";
import { planToServe } from "../serve/servable_plan.js";
import { serveUntilSignal } from "../serve/serve_until_signal.js";
import type { PrintForm } from "../serve/serving_json.js";
import { findSocketGroup } from "../serve/socket_group.js";
import { socketPath } from "../serve/socket_names.js";
import { isolateNvlinkOption, readSource, requireAssignments, type SourceOptions } from "../source.js";
import { virtualModel } from "../virtual_model.js";
import { planJson, planLines } from "./plan.js";

/** What `serve` takes besides a source. */
export interface ServeCommandOptions extends SourceOptions {
  socketDir: string;
  stateDir: string;
  socketGroup?: string;
  /** GiB. */
  gpuMemory: "16" | "32";
  ramAsBar?: boolean;
  resetClearsMemory?: boolean;
  includeHost?: boolean;
  /** Really do it on a live host. */
  yes?: boolean;
  trustVmm?: boolean;
  allowInUse?: boolean;
  print: PrintForm;
  http?: string;
  httpName?: string[];
}

const GIB = 2 ** 30;

/**
 * `linkfence serve`: fences, then hands each function of an assignment to whoever connects to its socket, and keeps the
 * fence through every reset. Runs until SIGINT or SIGTERM.
 */
export async function runServe(
  options: ServeCommandOptions,
  reporter: Reporter = options.json === true ? new JsonReporter(options.print) : new TextReporter(options.print),
): Promise<number> {
  refuseForeignOptions(options);
  const http = await readHttp(options);
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const stateDir = directoryPath(options.stateDir, "--state-dir");
  const described = await readSource(options);
  const machine = options.live === true ? described : virtualModel(described);
  ledgerFor(machine, stateDir);
  const assignments = await requireAssignments(machine, { ...options, stateDir });
  const planning = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  const plan = planToServe(machine, assignments, planning);
  refuseLongPaths(machine, socketDir);
  const common = { machine, assignments, ...planning, socketDir, pageSize: hostPageSize() };
  const where = {
    stateDir,
    group: options.socketGroup === undefined ? undefined : findSocketGroup(options.socketGroup),
    form: options.print,
    ...(http !== undefined && { http }),
  };
  if (options.live !== true) {
    const data = {
      ...common,
      gpuMemory: Number(options.gpuMemory) * GIB,
      ramAsBar: options.ramAsBar === true,
      resetClearsMemory: options.resetClearsMemory === true,
    };
    return serveUntilSignal({ data, ...where }, reporter);
  }
  const allowInUse = options.allowInUse === true;
  const host = new HostFunctions(machine, allowInUse);
  host.refuseUnservable(assignments, []);
  if (options.yes !== true) return dryRun(options, machine, plan, host.drivers(assignments));
  requireRoot("serve");
  warnOfMemlock();
  const data = { ...common, trustVmm: options.trustVmm === true };
  return serveUntilSignal({ data, ...where, allowInUse }, reporter);
}

/** @throws UsageError */
async function readHttp({ http, httpName }: ServeCommandOptions): Promise<HttpSettings | undefined> {
  if (http === undefined) {
    if (httpName !== undefined) throw new UsageError("--http-name is for --http only");
    return undefined;
  }
  const { readHttpSettings } = await import("../../web/http_address.js");
  return readHttpSettings(http, httpName);
}

/** Guest memory is pinned, all of it. */
function warnOfMemlock(): void {
  const limit = memlockLimit();
  if (limit === undefined) return;
  const how = "set LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited";
  process.stderr.write(
    `linkfence: VMs with more than ${limit} bytes of memory will be refused (RLIMIT_MEMLOCK): ${how}\n`,
  );
}

/** Options that would mean nothing are a misunderstanding. @throws UsageError */
function refuseForeignOptions(options: ServeCommandOptions): void {
  const live = { "--yes": options.yes, "--trust-vmm": options.trustVmm, "--allow-in-use": options.allowInUse };
  const virtual = { "--ram-as-bar": options.ramAsBar, "--reset-clears-memory": options.resetClearsMemory };
  const foreign = Object.entries(options.live === true ? virtual : live).find(([, given]) => given === true);
  if (foreign === undefined) return;
  throw new UsageError(`${foreign[0]} is for ${options.live === true ? "virtual hardware" : "--live"} only`);
}

/** What would be done to this host. */
function dryRun({ json }: ServeCommandOptions, machine: Machine, plan: Plan, drivers: readonly LedgerDriver[]): number {
  const taken = drivers.filter(({ driver }) => driver !== "vfio-pci");
  if (json === true) {
    writeJson({ ...planJson(plan), dryRun: true, takes: taken.map(({ address, driver }) => ({ address, driver })) });
    return 0;
  }
  const takes = taken.map(({ address, driver }) => `would take ${address} from ${driver ?? "nobody"} for vfio-pci`);
  const gpus = plan.gpus.length === 0 ? [] : planLines(plan);
  writeLines([heading(machine), "", ...gpus, ...takes, "dry run: nothing was touched; --yes does it"]);
  return 0;
}

/** Any GPU may come to be assigned, so the longest path that there may be has to do. */
function refuseLongPaths(machine: Machine, socketDir: string): void {
  const served = machine.virtual ? [...machine.gpus, ...machine.bridges] : machine.functions;
  const addresses = served.map(({ address }) => address);
  const paths = addresses.map((address) => socketPath(machine, socketDir, address));
  const longest = Math.max(...paths.map((path) => Buffer.byteLength(path)));
  if (longest <= MAX_SOCKET_PATH) return;
  throw new UsageError(
    `--socket-dir ${socketDir}: paths of sockets would have up to ${longest} bytes, ${MAX_SOCKET_PATH} is the most; name a shorter one`,
  );
}
