#!/usr/bin/env node
import { Command, CommanderError } from "commander";
import { errnoInWords, errnoOf } from "../host/error.js";
import { EXIT_FAILURE, failureLine, UsageError } from "./failure.js";
import { defaultSocketDir } from "./serve/default_directory.js";
import { registerServing } from "./serving.js";
import { addAssignOption, addIntentOptions, addSourceOptions } from "./source.js";
import { VERSION } from "./version.js";
import { registerVfioUser } from "./vfio_user.js";

/** The command line: every command loads its own code only when it runs, so that `--help` is quick. */
function buildProgram(): Command {
  const program = new Command("linkfence")
    .description("Shows what NVLink lets across between GPUs, and cuts the links that must not exist.")
    .version(VERSION)
    .showSuggestionAfterError(false)
    .configureHelp({ sortSubcommands: false })
    .addHelpText("after", EXAMPLES);
  const add = (name: string, description: string) =>
    addSourceOptions(program.command(name).description(description).allowExcessArguments(false));

  addIntentOptions(add("audit", "what crosses that should not; exit 1 when something does"))
    .option("--format <format>", "text, json, or html: a report in one file, with picture and evidence (default: text)")
    .option("--out <file>", "where to (default: standard output)")
    .action(async (options) => {
      const { runAudit } = await import("./command/audit.js");
      process.exitCode = await runAudit(options);
    });
  addIntentOptions(add("topo", "how GPUs are connected, as `nvidia-smi topo -m` shows it, and drawn"))
    .option("--format <format>", "matrix, drawing, tree, svg, dot, png or json (default: matrix and drawing)")
    .option("--out <file>", "where to (default: standard output)")
    .action(async (options) => {
      const { runTopo } = await import("./command/topo.js");
      process.exitCode = await runTopo(options);
    });
  add("groups", "IOMMU groups, isolation now and possible, reason and action per pair").action(async (options) => {
    const { runGroups } = await import("./command/groups.js");
    process.exitCode = await runGroups(options);
  });
  addIntentOptions(add("plan", "which links to cut for these assignments; exit 1 when they cannot be isolated"))
    .option("--include-host", "touch GPUs of the host although a driver has them")
    .action(async (options) => {
      const { runPlan } = await import("./command/plan.js");
      process.exitCode = await runPlan(options);
    });
  addIntentOptions(add("fence", "cut the links and verify; on virtual hardware for every SOURCE but --live"))
    .option("--include-host", "touch GPUs of the host although a driver has them")
    .option("--yes", "really do it on a live host")
    .option("--allow-in-use", "take GPUs from this host although it uses them")
    .option("--out <file>", "write the machine as it is afterwards, with evidence, as a capture")
    .action(async (options) => {
      const { runFence } = await import("./command/fence.js");
      process.exitCode = await runFence(options);
    });
  addIntentOptions(add("verify", "read back and compare with the intent; exit 1 when a fence is open"))
    .option("--include-host", "expect GPUs of the host to be cut although a driver has them")
    .option("--socket-dir <dir>", "where the sockets of a server of this host are, which is asked", defaultSocketDir())
    .action(async (options) => {
      const { runVerify } = await import("./command/verify.js");
      process.exitCode = await runVerify(options);
    });
  addIntentOptions(add("watch", "tell when a fence of this host (--live) is opened; exit 1 when one was"))
    .option("--include-host", "expect GPUs of the host to be cut although a driver has them")
    .option("--socket-dir <dir>", "where the sockets of a server of this host are, which is asked", defaultSocketDir())
    .option("--interval <ms>", "milliseconds from one look to the next", "500")
    .option("--exit-on-open", "end with the first fence that is open")
    .addHelpText("after", WATCH_EVENTS)
    .action(async (options) => {
      const { runWatch } = await import("./command/watch.js");
      process.exitCode = await runWatch(options);
    });
  addAssignOption(add("capture", "write the machine down as a file that --capture reads"))
    .option("--out <file>", "where to (default: standard output)")
    .action(async (options) => {
      const { runCapture } = await import("./command/capture.js");
      process.exitCode = await runCapture(options);
    });
  program
    .command("firmware")
    .description("derive what the platform's firmware adds for NVLink2 and write the full device tree")
    .requiredOption("--device-tree <file>", "a firmware tree: NPUs and links there, PCI not probed")
    .option("-o, --out <file>", "where to write the .dtb (default: standard output)")
    .option("--json", "print JSON")
    .allowExcessArguments(false)
    .action(async (options) => {
      const { runFirmware } = await import("./command/firmware.js");
      process.exitCode = await runFirmware(options);
    });
  registerServing(program, add);
  registerVfioUser(program);
  // Commander's own help command answers an unknown name with the whole help on stderr.
  program
    .helpCommand(false)
    .command("help [command]")
    .description("display help for command")
    .action((name?: string) => {
      const command = name === undefined ? program : program.commands.find((each) => each.name() === name);
      if (command === undefined) throw new UsageError(`unknown command '${name}' (see linkfence --help)`);
      command.outputHelp();
    });
  return program;
}

const EXAMPLES = `
SOURCE is one of --live, --machine NAME, --device-tree FILE, --capture FILE, --lspci FILE, --sysfs ROOT.

  linkfence audit --live
  linkfence topo --machine sequoia
  linkfence topo --machine dgx1v --format svg --out dgx1v.svg
  linkfence plan --machine sequoia --assign vm1=GPU0,GPU1 --assign vm2=GPU2
  linkfence serve --machine sequoia --assign vm1=GPU0,GPU1 --assign vm2=GPU2

Exit codes: 0 fine, 1 a finding, 2 bad input or failure.`;

const WATCH_EVENTS = `
Prints a line for each GPU at first, and whenever its fence has changed: closed, open, or unreadable, which counts as open.
With --json each is an object: {"event":"begin"|"closed"|"open"|"unreadable","time","gpu","address","state","expected",
"actual","access","reason"}. Looks only, and never opens a VFIO group. Ends with SIGINT or SIGTERM.`;

/** Makes commander throw instead of exiting, and keeps its errors to one line. */
function tame(command: Command): void {
  command.exitOverride().configureOutput({ outputError: () => undefined });
  for (const child of command.commands) tame(child);
}

async function main(): Promise<void> {
  surviveBrokenOutput();
  const program = buildProgram();
  tame(program);
  try {
    if (process.argv.length <= 2) program.outputHelp();
    else await program.parseAsync();
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) return;
    fail(error);
  }
}

/**
 * A reader that has seen enough (`| head`) is no failure, and no reason to leave a fence half done or a file unwritten.
 * Any other error of standard output, a full disk say, is a failure once everything else is done.
 */
function surviveBrokenOutput(): void {
  let reported = false;
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (reported || error.code === "EPIPE") return;
    reported = true;
    fail(new UsageError(`standard output cannot be written: ${errnoInWords(errnoOf(error))}`));
    process.once("exit", () => {
      process.exitCode = EXIT_FAILURE;
    });
  });
  process.stderr.on("error", () => undefined);
}

function fail(error: unknown): void {
  const line = failureLine(error).replace(/^error: /, "");
  const hint = error instanceof CommanderError ? " (see linkfence --help)" : "";
  process.stderr.write(`linkfence: ${line}${hint}\n`);
  if (process.env.LINKFENCE_DEBUG) console.error(error);
  process.exitCode = EXIT_FAILURE;
}

await main();
