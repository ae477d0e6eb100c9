import { join } from "node:path";
import { runCommand } from "./run_command.js";

/** A command line. */
export interface Command {
  program: string;
  args: string[];
}

/**
 * Programs unpacked from amd64 Debian packages into a folder. They run with the loader and the libraries from there, so that
 * the machine's own may be of any age.
 */
export class ProgramPrefix {
  readonly #libraries: string;
  readonly #loader: string;

  constructor(readonly folder: string) {
    this.#libraries = join(folder, "usr/lib/x86_64-linux-gnu");
    this.#loader = join(this.#libraries, "ld-linux-x86-64.so.2");
  }

  /** @param program relative to the folder, e.g. `usr/bin/xz` */
  command(program: string, args: readonly string[]): Command {
    const path = join(this.folder, program);
    return { program: this.#loader, args: ["--library-path", this.#libraries, "--argv0", program, path, ...args] };
  }

  /** What a program prints, fed with `input`. */
  run(program: string, args: readonly string[], input?: Uint8Array): Promise<Buffer> {
    const command = this.command(program, args);
    return runCommand(command.program, command.args, input === undefined ? {} : { input });
  }

  /** The loader and the libraries that a program needs. */
  async libraries(program: string): Promise<string[]> {
    const listing = await runCommand(this.#loader, [
      "--library-path",
      this.#libraries,
      "--list",
      join(this.folder, program),
    ]);
    return [this.#loader, ...sharedLibraries(listing.toString("utf8"))];
  }
}

/** The paths in a loader's listing, as `ldd` prints it. */
export function sharedLibraries(listing: string): string[] {
  return [...listing.matchAll(/=> (\/\S+)/g)].flatMap((match) => match[1] ?? []);
}
