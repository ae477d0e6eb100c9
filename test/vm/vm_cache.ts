import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/**
 * A folder whose entries are made once and then only read. An entry is there whole or not at all: it is made beside its
 * place and moved there, under a lock, so that any number of processes may ask for it at a time.
 */
export class VmCache {
  /** @param folder defaults to `$LINKFENCE_VM_CACHE`, else `~/.cache/linkfence/vm` */
  constructor(readonly folder: string = process.env.LINKFENCE_VM_CACHE || join(homedir(), ".cache/linkfence/vm")) {}

  /** Where an entry is, or will be. */
  path(name: string): string {
    return join(this.folder, name);
  }

  /**
   * The path of an entry, which `make` builds when it is not there.
   * @param name changes whenever what `make` builds does
   * @param make builds the entry, a file or a folder, at `target`; `work` is an empty folder that is removed afterwards
   */
  async entry(name: string, make: (target: string, work: string) => Promise<void>): Promise<string> {
    const path = this.path(name);
    if (existsSync(path)) return path;
    mkdirSync(this.folder, { recursive: true });
    const unlock = await lock(`${path}.lock`);
    // Whoever left such a folder was killed: it would hold the lock otherwise.
    for (const left of readdirSync(this.folder).filter((file) => file.startsWith(`${name}.work-`))) {
      rmSync(this.path(left), { recursive: true, force: true });
    }
    const work = mkdtempSync(`${path}.work-`);
    try {
      if (existsSync(path)) return path;
      const target = join(work, "entry");
      const scratch = join(work, "scratch");
      mkdirSync(scratch);
      await make(target, scratch);
      renameSync(target, path);
      return path;
    } finally {
      rmSync(work, { recursive: true, force: true });
      await unlock();
    }
  }
}

/** Waits for a lock that ends with this process at the latest. Node has no flock: `cat` holds it while its stdin is open. */
async function lock(path: string): Promise<() => Promise<void>> {
  const holder = spawn("flock", [path, "sh", "-c", "echo locked; exec cat >/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = once(holder, "close");
  const [data] = await Promise.race([once(holder.stdout, "data"), ended.then(() => [])]);
  if (data === undefined) throw new Error(`cannot lock ${path}`);
  return async () => {
    holder.stdin.end();
    await ended;
  };
}
