import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { existsSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Latency } from "./latency.js";

/** What the client does, see latency_client.c. */
export type Access = "read" | "register" | "write";

/** Servers and a client of theirs with their sockets in a directory, each pinned to a CPU. */
export class PinnedPrograms {
  readonly #children: ChildProcess[] = [];

  constructor(readonly directory: string) {}

  /** @returns whether there is a compiler and it succeeded */
  compile(name: string): boolean {
    const source = fileURLToPath(new URL(`${name}.c`, import.meta.url));
    return spawnSync("cc", ["-O2", "-o", join(this.directory, name), source]).status === 0;
  }

  socket(name: string): string {
    return join(this.directory, `${name}.sock`);
  }

  async startC(cpu: number, socket: string, spin = 0): Promise<ChildProcess> {
    return await this.#start(cpu, [join(this.directory, "minimal_server"), socket, String(spin)], socket);
  }

  async startServer(cpu: number, sockets: readonly string[], spin = 0): Promise<ChildProcess> {
    const child = await this.startScript(cpu, "vfio_user_server", [String(spin), ...sockets], sockets.at(-1) ?? "");
    // Compiled code is what is compared.
    await this.measure(cpu, "read", 10, 10_000, sockets.slice(0, 1));
    await this.measure(cpu, "write", 10, 100, sockets.slice(0, 1));
    await sleep(500);
    return child;
  }

  /** A server in TypeScript, from when it listens at the socket. */
  async startScript(cpu: number, name: string, parameters: readonly string[], socket: string): Promise<ChildProcess> {
    const script = fileURLToPath(new URL(`${name}.ts`, import.meta.url));
    return await this.#start(cpu, [process.execPath, "--import", "tsx", script, ...parameters], socket);
  }

  /** What accesses to each of the sockets took, in alternating blocks of so many. */
  async measure(
    cpu: number,
    access: Access,
    blocks: number,
    count: number,
    sockets: readonly string[],
  ): Promise<Latency[]> {
    const client = join(this.directory, "latency_client");
    const command = ["-c", String(cpu), client, access, String(blocks), String(count), ...sockets];
    const { stdout } = await promisify(execFile)("taskset", command);
    return stdout
      .trim()
      .split("\n")
      .map((line) => {
        const [p50 = 0, p99 = 0, mean = 0, max = 0] = line.split(" ").map(Number);
        return { p50, p99, mean, max };
      });
  }

  stopAll(): void {
    for (const child of this.#children.splice(0)) child.kill("SIGKILL");
  }

  async #start(cpu: number, command: readonly string[], socket: string): Promise<ChildProcess> {
    rmSync(socket, { force: true });
    const child = spawn("taskset", ["-c", String(cpu), ...command], { stdio: "inherit" });
    this.#children.push(child);
    while (!existsSync(socket)) {
      if (child.exitCode !== null) throw new Error(`${command[0]} ended with ${child.exitCode}`);
      await sleep(10);
    }
    // It exists from bind on, and is connected to from listen on.
    await sleep(50);
    return child;
  }
}

/** The first and the last CPU that this process may run on (proc_pid_status(5)). */
export function allowedCpus(): number[] {
  const list = /^Cpus_allowed_list:\s*(.*)$/m.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
  const cpus = list.split(/[-,]/).map(Number);
  return [Math.min(...cpus), Math.max(...cpus)];
}
