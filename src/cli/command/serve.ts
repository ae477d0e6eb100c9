import type { Machine } from "../../machine/machine.js";
import { MAX_SOCKET_PATH } from "../../os/index.js";
import { UsageError } from "../failure.js";
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
  print: PrintForm;
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
  if (options.live === true) {
    throw new UsageError(
      "this version serves virtual hardware only: write the host down with capture, serve --capture it",
    );
  }
  const socketDir = directoryPath(options.socketDir, "--socket-dir");
  const stateDir = directoryPath(options.stateDir, "--state-dir");
  const machine = virtualModel(await readSource(options));
  ledgerFor(machine, stateDir);
  const assignments = await requireAssignments(machine, { ...options, stateDir });
  const planning = { includeHost: options.includeHost === true, ...(await isolateNvlinkOption(options)) };
  planToServe(machine, assignments, planning);
  refuseLongPaths(machine, socketDir);
  const settings = {
    machine,
    assignments,
    ...planning,
    socketDir,
    stateDir,
    group: options.socketGroup === undefined ? undefined : findSocketGroup(options.socketGroup),
    gpuMemory: Number(options.gpuMemory) * GIB,
    ramAsBar: options.ramAsBar === true,
    resetClearsMemory: options.resetClearsMemory === true,
    pageSize: hostPageSize(),
    form: options.print,
  };
  return serveUntilSignal(settings, reporter);
}

/** Any GPU may come to be assigned, so the longest path that there may be has to do. */
function refuseLongPaths(machine: Machine, socketDir: string): void {
  const addresses = [...machine.gpus, ...machine.bridges].map(({ address }) => address);
  const paths = addresses.map((address) => socketPath(machine, socketDir, address));
  const longest = Math.max(...paths.map((path) => Buffer.byteLength(path)));
  if (longest <= MAX_SOCKET_PATH) return;
  throw new UsageError(
    `--socket-dir ${socketDir}: paths of sockets would have up to ${longest} bytes, ${MAX_SOCKET_PATH} is the most; name a shorter one`,
  );
}
