import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAssignments } from "../isolation/assignment.js";
import { makePlan, type Plan } from "../isolation/plan.js";
import { builtinMachine } from "../machine/builtin.js";
import type { Link, Machine } from "../machine/machine.js";
import { FfiMissingError, libc } from "../os/index.js";
import { fenceVirtual } from "./command/fence.js";
import { runServe } from "./command/serve.js";
import { EXIT_FINDING } from "./failure.js";
import { paint, writeLines } from "./output.js";
import { progressLine } from "./progress_line.js";
import { shellWord } from "./serve/qemu_arguments.js";
import { type SiteAddress, TextReporter } from "./serve/reporter.js";
import type { ServerStatus } from "./serve/server_status.js";
import { matrixLines } from "./topology_matrix.js";

const MACHINE = "sequoia";
const ASSIGN = ["vm1=GPU0,GPU1", "vm2=GPU2"];
/** Any free port, so that it meets no other page. */
const HTTP = "127.0.0.1:0";
const NEXT = [
  "  npx linkfence audit --live                 what NVLink lets across on this host (reads only)",
  "  npx linkfence audit --machine c4140        four V100s that IOMMU groups call separate",
  "  npx linkfence --help",
];

/** `npm start`: two VMs on the built-in virtual AC922, before and after the fence, then served until a signal. */
export async function runTour(): Promise<number> {
  const machine = builtinMachine(MACHINE);
  const plan = makePlan(machine, parseAssignments(machine, ASSIGN));
  writeLines([
    paint("bold", "linkfence on a virtual IBM AC922 (Sequoia): six V100s, three to a socket, all joined by NVLink2"),
    "",
    "Before: every GPU reaches the memory of its two neighbours, whoever they belong to.",
    ...matrixOnly(matrixLines(machine)),
    "",
    "GPU0 and GPU1 go to vm1, GPU2 to vm2. Fencing:",
  ]);
  const missing = whyNothingCanBeServed();
  return missing === undefined ? serve(machine, plan) : fenceOnly(machine, plan, missing);
}

/** In directories of its own, so that it meets no other server and no ledger. */
async function serve(machine: Machine, plan: Plan): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), "linkfence-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  const options = {
    socketDir: folder,
    stateDir: join(folder, "state"),
    gpuMemory: "16",
    print: "qemu",
    http: HTTP,
  } as const;
  return runServe({ ...options, machine: MACHINE, assign: ASSIGN }, new TourReporter(machine, plan));
}

async function fenceOnly(machine: Machine, plan: Plan, missing: string): Promise<number> {
  const { result, after } = await fenceVirtual(machine, plan, (event) => writeLines([`  ${progressLine(event)}`]));
  writeLines([...afterLines(after, plan), "", `${paint("yellow", "not served")}: ${missing}`, "", "Next:", ...NEXT]);
  return result.verified ? 0 : EXIT_FINDING;
}

function whyNothingCanBeServed(): string | undefined {
  try {
    libc();
    return undefined;
  } catch (error) {
    if (error instanceof FfiMissingError) return error.message;
    throw error;
  }
}

/** What `serve` prints, with the matrix as the links are now. */
class TourReporter extends TextReporter {
  readonly #described: Machine;
  readonly #plan: Plan;

  constructor(machine: Machine, plan: Plan) {
    super("qemu");
    this.#described = machine;
    this.#plan = plan;
  }

  /** Said already. */
  override onBegin(): void {}

  override onReady(status: ServerStatus, site?: SiteAddress): void {
    writeLines(afterLines(asRead(this.#described, status), this.#plan));
    super.onReady(status, site);
  }

  protected override nextLines({ socketDir }: ServerStatus): string[] {
    const here = `--socket-dir ${shellWord(socketDir)}`;
    return [
      "All of this is virtual hardware: what QEMU gets are models of V100s with real memory behind them.",
      "",
      "Next, in another terminal:",
      `  npx linkfence status ${here}`,
      `  npx linkfence assign vm2=GPU2,GPU3 ${here}`,
      ...NEXT,
      "",
      "Ctrl-C ends it and leaves nothing behind.",
    ];
  }
}

/** The machine with its links up or down as the fences have read them. */
function asRead(machine: Machine, { functions }: ServerStatus): Machine {
  const up = new Map(functions.map(({ address, fence }) => [address, fence?.actual.linksUp]));
  const gpus = machine.gpus.map((gpu) => {
    const linksUp = up.get(gpu.address);
    const state = (number: number): Link["state"] =>
      linksUp === undefined || linksUp === null ? "unknown" : linksUp.includes(number) ? "up" : "down";
    return { ...gpu, links: gpu.links.map((link) => ({ ...link, state: state(link.number) })) };
  });
  return { ...machine, gpus };
}

function afterLines(after: Machine, { crossLinks, gpus }: Plan): string[] {
  const nameOf = new Map(gpus.map(({ address, name }) => [address, name]));
  const cut = crossLinks.map(
    ({ gpu, link, far, farLink }) => `${nameOf.get(gpu)}:${link}-${nameOf.get(far ?? "") ?? far}:${farLink}`,
  );
  return [
    "",
    "After: vm1 keeps its NVLinks, nothing leads to vm2, the host's GPUs are as they were.",
    ...matrixOnly(matrixLines(after)),
    "",
    `${cut.length} links cut at both ends: ${cut.join(" ")}`,
  ];
}

/** The matrix without its legend. */
function matrixOnly(lines: readonly string[]): string[] {
  return lines.slice(0, lines.indexOf(""));
}
