import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { readHost } from "../src/host/sysfs_machine.js";
import { makeSysfsTree } from "./sysfs_tree.js";

const FUNCTIONS = 10_000;
const RUNS = 5;
const MAIN = fileURLToPath(new URL("../dist/cli/main.js", import.meta.url));

/**
 * Compares the audit of a made-up sysfs tree, as a whole process, with `lspci -vv` on the same tree, which reads much the
 * same files; the target is a ratio of 1 at most.
 */
export async function run(): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), "linkfence-sysfs-"));
  try {
    makeSysfsTree(root, FUNCTIONS);
    compare(root);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

function compare(root: string): void {
  const lspci = measure(() => spawn("lspci", ["-O", `sysfs.path=${join(root, "sys/bus/pci")}`, "-vv"]));
  const reader = measure(() => readHost(root).functions.length === FUNCTIONS);
  const audit = existsSync(MAIN) ? measure(() => spawn(process.execPath, [MAIN, "audit", "--sysfs", root])) : undefined;
  const unit = `${FUNCTIONS} functions`;
  if (lspci === undefined) console.log(`sysfs: lspci -vv of ${unit}: not installed, nothing to compare with`);
  else console.log(`sysfs: lspci -vv of ${unit}: ${lspci.toFixed(0)} ms`);
  line(`reading ${unit} in process`, reader, lspci);
  if (audit === undefined && !existsSync(MAIN)) console.log("sysfs: audit as a whole process: not built, not measured");
  else line(`audit --sysfs of ${unit} as a whole process`, audit, lspci);
}

function line(what: string, time: number | undefined, lspci: number | undefined): void {
  if (time === undefined) console.log(`sysfs: ${what}: failed`);
  else if (lspci === undefined) console.log(`sysfs: ${what}: ${time.toFixed(0)} ms`);
  else console.log(`sysfs: ${what}: ${time.toFixed(0)} ms, ratio ${(time / lspci).toFixed(2)} (at most 1)`);
}

/** Median wall time in milliseconds after one run to warm the kernel's caches; undefined when the work failed. */
function measure(work: () => boolean): number | undefined {
  if (!work()) return undefined;
  const times = Array.from({ length: RUNS }, () => {
    const start = performance.now();
    work();
    return performance.now() - start;
  });
  return times.sort((a, b) => a - b)[Math.floor(RUNS / 2)];
}

/** An audit that finds something exits 1, and that is no failure here. */
function spawn(command: string, args: readonly string[]): boolean {
  const { error, status } = spawnSync(command, args, { stdio: ["ignore", "ignore", "ignore"] });
  return error === undefined && (status === 0 || status === 1);
}
