/**
 * Breaks something on purpose, in a copy of the sources, and has the simulation find it: each of these, within so many lives.
 *
 *   controls.ts [NAME...]
 *
 * Exit status: 0 all found, 1 one was not, 2 no such name.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type Edit, patchedCopy } from "../patched_copy.js";
import { PROJECT } from "../project_folder.js";

const SEED = 1;

/** A defect, and how it is found. */
export interface Control extends Readonly<Edit> {
  /** What the simulation says of it. */
  readonly found: RegExp;
  /** Lives in which it has to be found. */
  readonly lives: number;
}

export const CONTROLS: Readonly<Record<string, Control>> = {
  "far ends are not proven": {
    file: "src/fence/fence.ts",
    find: "    return fence.proveCut(links);",
    replace: "    void fence;\n    return new Set(links);",
    found: /a client may be there/,
    lives: 400,
  },
  "resets do not take turns": {
    file: "src/fence/fences.ts",
    find: "(a, b) => a === b || this.#isLinked(a, b)",
    replace: "(a, b) => a === b && this.#isLinked(a, b)",
    found: /a client may be there|lets a client in/,
    lives: 200,
  },
  "no reset after a client": {
    file: "src/fence/fenced_device.ts",
    find: "      yield* this.#renew();\n      this.#fence.attached = false;",
    replace: "      this.#fence.attached = false;",
    found: /no reset has ended what a client may have left running/,
    lives: 50,
  },
  "an error is taken for a mask": {
    file: "src/machine/part.ts",
    find: "return value >>> 0 !== 0xffffffff && high !== 0xbadf && high !== 0xbad0;",
    replace: "return value >>> 0 !== high - 1;",
    found: /is in force, but link|a client may be there/,
    lives: 400,
  },
  "clients reach a GPU whatever its fence says": {
    file: "src/fence/fenced_device.ts",
    find: "  #refuse(): never {\n",
    replace: "  #refuse(): never {\n    if (this.#left) return undefined as never;\n",
    found: /a client's access reached|was let in/,
    lives: 200,
  },
  "the next owner gets the last one's memory": {
    file: "src/virtual/memory_clients.ts",
    find: "    this.memory.renew();\n",
    replace: "",
    found: /read memory that|had left in memory/,
    lives: 200,
  },
  "the ledger is written in place": {
    file: "src/cli/replace_file.ts",
    find: "    renameSync(temporary, target);\n",
    replace:
      '    void renameSync;\n    const at = openSync(target, "w");\n    try {\n      writeAll(at, Buffer.from(data));\n' +
      "      fsyncSync(at);\n    } finally {\n      closeSync(at);\n    }\n    removeIfThere(temporary);\n",
    found: /the ledger/,
    lives: 200,
  },
  "the ledger is not synced": {
    file: "src/cli/replace_file.ts",
    find: "      fsyncSync(fd);\n    } finally {\n      closeSync(fd);\n    }\n    renameSync",
    replace: "    } finally {\n      closeSync(fd);\n    }\n    renameSync",
    found: /the ledger/,
    lives: 400,
  },
  "nobody is served after a reset": {
    file: "src/vfio-user/endpoint.ts",
    find: "if (begun && !this.isBusy && this.#session !== undefined) this.#host.again(this.#session);",
    replace: "void begun;",
    found: /every client has what it is owed|every GPU lets a client in/,
    lives: 100,
  },
  "a short send is taken for a whole one": {
    file: "src/vfio-user/message_stream.ts",
    find: "      if (sent === length) return;",
    replace: "      if (sent > 0) return;",
    found: /makes no sense|not due|is owed|was to be answered|lets a client in/,
    lives: 100,
  },
  "descriptors of a message that waited are kept": {
    file: "src/vfio-user/message_stream.ts",
    find: "      this.#queue.shift();\n      for (const fd of fds) fd.close();",
    replace: "      this.#queue.shift();",
    found: /has left .* behind/,
    lives: 400,
  },
};

/** Whether there is something to break: that it is there, exactly once. */
export function isThere({ file, find }: Control): boolean {
  return readFileSync(join(PROJECT, file), "utf8").split(find).length === 2;
}

/** @returns what the simulation says, or nothing when it finds nothing */
export function foundIn(control: Control): string | undefined {
  const { folder, remove } = patchedCopy([control]);
  try {
    const args = ["--import", "tsx", "test/simulation/run.ts", join(folder, "progress"), SEED, control.lives, 300];
    const { status, stderr } = spawnSync(process.execPath, args.map(String), { cwd: folder, encoding: "utf8" });
    const life = Number(readFileSync(join(folder, "progress"), "utf8")) - SEED + 1;
    const said = /FOUND: .*/.exec(stderr)?.[0];
    return status === 0 ? undefined : `${said ?? stderr.slice(-500)} (life ${life})`;
  } finally {
    remove();
  }
}

function main(names: readonly string[]): number {
  const unknown = names.find((name) => !Object.hasOwn(CONTROLS, name));
  if (unknown !== undefined) {
    console.error(`controls: no control ${JSON.stringify(unknown)}; there are ${Object.keys(CONTROLS).join(", ")}`);
    return 2;
  }
  let missed = 0;
  for (const [name, control] of Object.entries(CONTROLS)) {
    if (names.length > 0 && !names.includes(name)) continue;
    const said = isThere(control) ? foundIn(control) : `${control.file} has other words now: ${control.find.trim()}`;
    const isFound = said !== undefined && control.found.test(said);
    if (!isFound) missed++;
    console.log(`${isFound ? "found" : "NOT FOUND"}: ${name}: ${said ?? `nothing in ${control.lives} lives`}`);
  }
  return missed === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main(process.argv.slice(2));
