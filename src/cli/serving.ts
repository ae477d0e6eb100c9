import { type Command, Option } from "commander";
import { defaultSocketDir, defaultStateDir } from "./serve/default_directory.js";
import { addIntentOptions, collect } from "./source.js";

/** Adds `serve` and the commands that talk to it. Their code is loaded when they run. */
export function registerServing(program: Command, addWithSource: (name: string, description: string) => Command): void {
  const addSocketDir = (command: Command) =>
    command.option("--socket-dir <dir>", "where the server's sockets are", defaultSocketDir());
  const addTalking = (name: string, description: string) =>
    addSocketDir(program.command(name).description(description))
      .option("--json", "print JSON")
      .allowExcessArguments(false);

  const serve = addIntentOptions(
    addWithSource("serve", "fence, keep fenced, and hand each function to its VM on a socket"),
  );
  addSocketDir(serve)
    .option("--socket-group <group>", "members of this group may connect too (mode 0660)")
    .addOption(new Option("--gpu-memory <gib>", "memory of each virtual GPU").choices(["16", "32"]).default("16"))
    .option("--ram-as-bar", "show each GPU's coherent RAM as BAR4 of its first bridge too, which QEMU maps")
    .option("--reset-clears-memory", "a reset clears the virtual GPU's memory")
    .option("--include-host", "touch GPUs of the host although a driver has them")
    .option("--yes", "really do it on a live host")
    .option("--allow-in-use", "take functions of a live host although it uses them")
    .option("--trust-vmm", "on a live host: BARs at memory speed, by a descriptor with which the VMM could do more")
    .option(
      "--http <host:port>",
      "show it in a browser, with an API and metrics: 127.0.0.1:8080, say; port 0 is any that is free",
    )
    .option(
      "--http-name <name>",
      "what others call this host; lets --http listen beyond loopback; may be repeated",
      collect,
    )
    .addOption(
      new Option("--print <form>", "what to paste, for each assignment").choices(["qemu", "libvirt"]).default("qemu"),
    )
    .action(async (options) => {
      const { runServe } = await import("./command/serve.js");
      process.exitCode = await runServe(options);
    });
  addTalking("status", "what is fenced, served and attached, and since when; exit 1 when a fence has failed").action(
    async (options) => {
      const { runStatus } = await import("./command/status.js");
      process.exitCode = await runStatus(options);
    },
  );
  addTalking("assign", "change a running server: add, replace, or with NAME= empty an assignment")
    .argument("<name=gpu...>", "assignments as with serve --assign; several change together")
    .action(async (texts: string[], options) => {
      const { runAssign } = await import("./command/assign.js");
      process.exitCode = await runAssign(texts, options);
    });
  addSocketDir(addWithSource("release", "undo an assignment: fence anew, serve it no longer, clear its ledger entry"))
    .argument("<name>", "the assignment")
    .option("--state-dir <dir>", "where the ledger is, when no server runs", defaultStateDir())
    .option("--yes", "really reset GPUs of a live host and give them back, when no server runs")
    .action(async (name: string, options) => {
      const { runRelease } = await import("./command/release.js");
      process.exitCode = await runRelease(name, options);
    });
}
