import type { Command } from "commander";

/** Adds `linkfence vfio-user` with its subcommands. Their code is loaded when they run. */
export function registerVfioUser(program: Command): void {
  const group = program.command("vfio-user").description("talk to a device that a vfio-user server offers on a socket");
  const add = (name: string, description: string) =>
    group.command(name).description(description).option("--json", "print JSON").allowExcessArguments(false);
  const run = async (start: (commands: typeof import("./command/vfio_user.js")) => void) => {
    start(await import("./command/vfio_user.js"));
  };
  add("info <socket>", "regions with their capabilities, and interrupts").action((socket, options) =>
    run(({ runInfo }) => runInfo(socket, options)),
  );
  add(
    "read <socket> <region> <offset> [count]",
    "bytes of a region: bar0 to bar5, rom, config, vga or a number",
  ).action((socket, region, offset, count, options) =>
    run(({ runRead }) => runRead(socket, region, offset, count, options)),
  );
  add("write <socket> <region> <offset> <value>", "write a little-endian value to a region")
    .option("--size <bytes>", "1, 2, 4 or 8", "4")
    .action((socket, region, offset, value, options) =>
      run(({ runWrite }) => runWrite(socket, region, offset, value, options)),
    );
  add("reset <socket>", "reset the device").action((socket, options) =>
    run(({ runReset }) => runReset(socket, options)),
  );
}
