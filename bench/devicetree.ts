import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Bench } from "tinybench";
import { textBytes, u32Bytes, u64Bytes } from "../src/devicetree/property.js";
import { readDeviceTree } from "../src/devicetree/read.js";
import type { DeviceTreeNode } from "../src/devicetree/tree.js";
import { writeDeviceTree } from "../src/devicetree/write.js";

const COPIES = 100;
/** The most user time the reader may take, in user times of dtc. */
const BUDGET = 2;
/** A clock tick of /proc/self/stat: USER_HZ is 100 on every architecture that Node runs on. */
const TICK_MS = 10;

/**
 * Reads 100 copies of a firmware tree of about 95 KB in a fresh Node process, as against a run of `dtc -I dtb -O dtb`
 * on each, and prints both user times, their ratio and the reader's MB/s.
 */
export async function run(): Promise<void> {
  const { name, bytes } = input();
  const directory = mkdtempSync(join(tmpdir(), "linkfence-bench-"));
  try {
    const paths = Array.from({ length: COPIES }, (_, copy) => join(directory, `${copy}.dtb`));
    for (const path of paths) writeFileSync(path, bytes);
    const reader = fastest(() => readerTime(paths));
    const megabytes = bytes.length / 1e6;
    console.log(`device tree: ${COPIES} copies of ${name}, ${bytes.length} bytes each, user time without Node's start`);
    console.log(`  linkfence ${reader.toFixed(0)} ms, ${((COPIES * megabytes * 1000) / reader).toFixed(0)} MB/s`);
    console.log(`  linkfence warmed up ${((await readsPerSecond(bytes)) * megabytes).toFixed(0)} MB/s`);
    if (spawnSync("dtc", ["--version"]).error) return console.log("  dtc is not installed: no ratio");
    const dtc = fastest(() => dtcTime(paths));
    console.log(`  dtc -I dtb -O dtb ${dtc.toFixed(0)} ms`);
    console.log(`  ratio ${(reader / dtc).toFixed(2)}, at most ${BUDGET}${reader > BUDGET * dtc ? ": TOO SLOW" : ""}`);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/** The least of three, which the machine's other work disturbed least. */
function fastest(measure: () => number): number {
  return Math.min(measure(), measure(), measure());
}

function readerTime(paths: string[]): number {
  const script = fileURLToPath(new URL("devicetree_copies.ts", import.meta.url));
  const child = spawnSync(process.execPath, [...process.execArgv, script, ...paths], { encoding: "utf8" });
  if (child.status !== 0) throw new Error(`the reader failed: ${child.stderr}`);
  return Number(child.stdout);
}

function dtcTime(paths: string[]): number {
  const before = childrenTime();
  for (const path of paths) spawnSync("dtc", ["-q", "-I", "dtb", "-O", "dtb", "-o", "/dev/null", path]);
  return childrenTime() - before;
}

/** User time of all children that have ended (cutime of proc_pid_stat(5), counted from behind the command's name). */
function childrenTime(): number {
  const stat = readFileSync("/proc/self/stat", "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return Number(fields[13]) * TICK_MS;
}

async function readsPerSecond(bytes: Uint8Array): Promise<number> {
  const bench = new Bench({ time: 500 });
  bench.add("read", () => {
    readDeviceTree(bytes);
  });
  const [task] = await bench.run();
  if (task?.result.state !== "completed") throw new Error("the benchmark did not complete");
  return task.result.throughput.mean;
}

/** A Witherspoon's firmware tree where it is at hand, else a made-up one of its size and shape. */
function input(): { name: string; bytes: Uint8Array } {
  const path = fileURLToPath(new URL("../../shared/data/op920.wsp.dtb", import.meta.url));
  if (existsSync(path)) return { name: "op920.wsp.dtb", bytes: readFileSync(path) };
  return { name: "a made-up tree", bytes: writeDeviceTree({ root: madeUpRoot(), reservations: [], bootCpu: 0 }) };
}

function madeUpRoot(): DeviceTreeNode {
  const children = Array.from({ length: 430 }, (_, index): DeviceTreeNode => {
    const properties = new Map([
      ["compatible", textBytes("linkfence,made-up", "linkfence,any")],
      ["reg", u64Bytes(BigInt(index) << 24n, 0x100000n)],
      ["phandle", u32Bytes(index + 1)],
      ["ibm,loc-code", textBytes(`UOPWR.MADEUP-Node0-P1-C${index}`)],
      ["status", textBytes("okay")],
      ["interrupts", u32Bytes(index, 1, index + 1, 1)],
      ["ibm,chip-id", u32Bytes(index % 2)],
    ]);
    return { name: `device@${(index * 2 ** 24).toString(16)}`, properties, children: [] };
  });
  const cells: [string, Uint8Array][] = [
    ["#address-cells", u32Bytes(2)],
    ["#size-cells", u32Bytes(2)],
  ];
  return { name: "", properties: new Map(cells), children };
}
