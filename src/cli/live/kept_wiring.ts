import { readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { HostError } from "../../host/error.js";
import { readBounded } from "../../host/read_bounded.js";
import { readCapture, writeCapture } from "../../machine/capture.js";
import { MachineError } from "../../machine/error.js";
import type { Gpu, Link, Machine, Unknown } from "../../machine/machine.js";
import { writeFileWhole } from "../write_file.js";

/** Only NVIDIA's driver tells where links end, and it is asked before its GPUs are taken from it. */
const NAME = /^wiring-[0-9a-f-]{36}\.json$/;
const LIMIT = 16 << 20;

/**
 * Keeps where a live host's links end beside the ledger, as a capture, for commands that come when nobody can tell any more.
 * Good until the host is booted again: somebody may have changed its boards then.
 */
export async function keepWiring(stateDir: string, machine: Machine): Promise<void> {
  const path = wiringPath(stateDir);
  if (path === undefined || machine.platform === "powernv" || !machine.gpus.some(isKnown)) return;
  await writeFileWhole(path, writeCapture(machine, new Date().toISOString()));
  const others = readdirSync(stateDir).filter((name) => NAME.test(name) && name !== basename(path));
  for (const old of others) rmSync(join(stateDir, old), { force: true });
}

/** The machine with the links of those GPUs that it has no far ends of, as they were kept in this boot of the host. */
export function withKeptWiring(machine: Machine, stateDir: string): Machine {
  const kept = keptGpus(stateDir);
  const known = new Set<string>();
  const gpus = machine.gpus.map((gpu) => {
    const then = kept.get(gpu.address);
    if (isKnown(gpu) || then === undefined || then.part !== gpu.part || !isKnown(then)) return gpu;
    known.add(gpu.address);
    return { ...gpu, nvlink: then.nvlink, links: then.links.map(withoutState) };
  });
  if (known.size === 0) return machine;
  const unknown = machine.unknown.flatMap((each): Unknown[] => {
    if (each.about !== "far-ends") return [each];
    const functions = each.functions.filter((address) => !known.has(address));
    return functions.length === 0 ? [] : [{ ...each, functions }];
  });
  return { ...machine, gpus, unknown };
}

function isKnown({ links }: Gpu): boolean {
  return links.some(({ far }) => far.kind !== "unknown");
}

/** What its registers said then is nothing now. */
function withoutState({ evidence: _, ...link }: Link): Link {
  return { ...link, state: "unknown" };
}

function keptGpus(stateDir: string): ReadonlyMap<string, Gpu> {
  const path = wiringPath(stateDir);
  try {
    if (path === undefined) return new Map();
    const { gpus } = readCapture(readBounded(path, LIMIT).toString("utf8"));
    return new Map(gpus.map((gpu) => [gpu.address, gpu]));
  } catch (error) {
    // Nothing was kept, or nothing that could be relied on: the links then stay unknown, and are cut.
    if (error instanceof HostError || error instanceof MachineError) return new Map();
    throw error;
  }
}

/** Undefined where the kernel does not tell one boot from another. */
function wiringPath(stateDir: string): string | undefined {
  try {
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    const name = `wiring-${boot}.json`;
    return NAME.test(name) ? join(stateDir, name) : undefined;
  } catch {
    return undefined;
  }
}
