import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { after, test } from "node:test";
import { inWords, killLedgerWriters, killWiringWriters, WRITER, type Write } from "./kill_everywhere.js";
import { CHANGES } from "./old_or_new.js";

// Killed at the entry of every system call that the real program makes while it writes, whatever the call is for.

const folder = mkdtempSync(join(tmpdir(), "linkfence-calls-"));
after(() => rmSync(folder, { recursive: true }));
const skip = whyNot();

function whyNot(): string | false {
  const run = spawnSync("strace", ["-f", "-o", "/dev/null", "true"], { encoding: "utf8" });
  if (run.error !== undefined) return "strace is not installed";
  return run.status === 0 ? false : `strace may not trace here: ${run.stderr.split("\n")[0]}`;
}

/** What has nothing to do with files, and comes when the engine likes: killed there is killed at the next call. */
const ENGINE = /^(futex|mmap|munmap|mprotect|madvise|brk|sched_yield|epoll_\w+|rt_sig\w+)$/;
const killedAt = new Map<string, number>();

/** A writer under strace, killed at each of the calls that one makes which is not killed. */
class TracedWriter {
  /** As strace counts: each call by its name, and the how manieth of that name it is. */
  #calls: { name: string; nth: number }[] | undefined;

  readonly write: Write = async ([what, stateDir, call, file]) => {
    if (what === "wiring" && call === 0) return (await this.#run([what, stateDir, file])) === null;
    if (this.#calls === undefined) {
      const copy = `${stateDir}-traced`;
      cpSync(stateDir, copy, { recursive: true });
      this.#calls = await this.#trace([what, copy, file]);
    }
    const at = this.#calls[call - 1];
    if (at === undefined) return (await this.#run([what, stateDir, file])) === null;
    const signal = await this.#run([what, stateDir, file], `-einject=${at.name}:signal=KILL:when=${at.nth}`);
    assert.equal(signal, "SIGKILL", `not killed at ${at.name} ${at.nth}`);
    killedAt.set(at.name, (killedAt.get(at.name) ?? 0) + 1);
    return false;
  };

  async #trace(args: readonly string[]): Promise<{ name: string; nth: number }[]> {
    const log = `${args[1]}.strace`;
    assert.equal(await this.#run(args, `-o${log}`), null);
    const lines = readFileSync(log, "utf8").split("\n");
    // Its first thread is the one that reads what it is told.
    const thread = lines.find((line) => line.includes(" read(0,"))?.split(" ")[0];
    const seen = new Map<string, number>();
    return lines.flatMap((line) => {
      const [, of, name = ""] = /^(\d+) +(\w+)\(/.exec(line) ?? [];
      if (of !== thread || ENGINE.test(name)) return [];
      const nth = (seen.get(name) ?? 0) + 1;
      seen.set(name, nth);
      return [{ name, nth }];
    });
  }

  /** Lets a writer come to its end, traced from the moment on where it is told to begin. Resolves to what killed it. */
  async #run([what = "", stateDir = "", file = ""]: readonly string[], ...options: string[]): Promise<string | null> {
    const args = [WRITER, what, stateDir, "0", file, ...(options.length > 0 ? ["wait"] : [])];
    const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    const end = once(child, "close");
    if (options.length > 0) {
      await told(child.stdout, "ready");
      const tracer = spawn("strace", ["-f", `-p${child.pid}`, ...options], { stdio: ["ignore", "ignore", "pipe"] });
      await told(tracer.stderr, "attached");
      tracer.stderr.resume();
      // One that is killed where it waits reads nothing.
      child.stdin.on("error", () => undefined).write("\n");
      await once(tracer, "close");
    }
    const [status, signal] = await end;
    assert.ok(signal === "SIGKILL" || status === 0, `${status} ${signal}`);
    return signal;
  }
}

async function told(stream: Readable, what: string): Promise<void> {
  let text = "";
  for await (const chunk of stream.iterator({ destroyOnReturn: false })) {
    text += chunk;
    if (text.includes(what)) return;
  }
  assert.fail(`ended before it said ${what}: ${text}`);
}

function subfolder(name: string): string {
  mkdirSync(join(folder, name));
  return join(folder, name);
}

for (const [index, change] of CHANGES.entries()) {
  test(`killed at any system call, a writer leaves the old ledger or the new: ${change.name}`, { skip }, async (t) => {
    t.diagnostic(inWords(await killLedgerWriters(subfolder(`${index}`), change, new TracedWriter().write)));
  });
}

test("killed at any system call, a writer leaves the old wiring or the new", { skip }, async (t) => {
  t.diagnostic(inWords(await killWiringWriters(subfolder("wiring"), new TracedWriter().write)));
  t.diagnostic(`killed at: ${[...killedAt].map(([name, count]) => `${name} ${count}`).join(", ")}`);
  for (const name of ["openat", "fchmod", "pwrite64", "fsync", "close", "rename"]) assert.ok(killedAt.has(name), name);
});
