import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import type { DeviceTreeNode } from "../src/devicetree/tree.js";

/** Path of a file of test/data/devicetree. */
export function samplePath(name: string): string {
  return fileURLToPath(new URL(`data/devicetree/${name}`, import.meta.url));
}

/** Bytes of a file of test/data/devicetree, in a buffer of their own. */
export function sample(name: string): Uint8Array {
  return new Uint8Array(readFileSync(samplePath(name)));
}

/** Path of a whole machine's tree, which is not part of the repository; undefined where it is not at hand. */
export function machineTreePath(name: string): string | undefined {
  const path = fileURLToPath(new URL(`../../shared/data/${name}`, import.meta.url));
  return existsSync(path) ? path : undefined;
}

/** For `test`'s `skip`: false when the command runs, else a line that says why not. */
export function missing(command: string): string | false {
  return spawnSync(command, ["--version"]).error === undefined ? false : `${command} is not installed`;
}

/** What a command prints for the given standard input. Fails the test when the command does. */
export function output(command: string, args: string[], input: Uint8Array = new Uint8Array()): Buffer {
  const run = spawnSync(command, args, { input, maxBuffer: 1 << 26 });
  if (run.status !== 0) throw new Error(`${command} ${args.join(" ")}: ${run.error ?? run.stderr}`);
  return run.stdout;
}

/** A node made by hand. */
export function node(
  name: string,
  properties: Record<string, Uint8Array> = {},
  children: DeviceTreeNode[] = [],
): DeviceTreeNode {
  return { name, properties: new Map(Object.entries(properties)), children };
}
