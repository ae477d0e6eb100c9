/**
 * The README's example: one guest has GPU0 and GPU1, the other GPU2, and all three are linked to each other. Both reset
 * their GPUs again and again, and try whatever they can to reach the other's memory. Then the same without a fence.
 */
import assert from "node:assert/strict";
import { closeSync, mkdirSync, openSync, readSync } from "node:fs";
import { join } from "node:path";
import { qemuArguments } from "../../../src/cli/serve/qemu_arguments.js";
import { startServer } from "../../../src/vfio-user/index.js";
import type { CheckReport } from "../check_report.js";
import { guestFiles } from "../guest_files.js";
import { type CheckContext, runCheck } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";
import { LinkfenceServer } from "./linkfence_server.js";
import { checkQuiet } from "./quiet_qemu.js";
import { readmeExample } from "./readme_example.js";
import type { UnfencedSockets } from "./unfenced_serving.js";

/** How long the guests go on, in seconds; `LINKFENCE_VM_CROSSING_S` asks for another time. */
const CROSSING_S = Number(process.env.LINKFENCE_VM_CROSSING_S ?? 60);
const UNFENCED_S = 5;
/** Seconds around that: two machines start at a time. */
const AROUND_BUDGET = 60;

const README_ASSIGNS = ["--machine", "sequoia", "--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2"];
const GUEST_FILES = guestFiles({ v100: "v100/guest" });

/** A guest and its GPUs, in the order of their ports. */
interface Guest {
  id: number;
  assignment: string;
  gpus: { name: string; address: string; mask: number; own: number[]; foreign: number[] }[];
}

/** The Sequoia's wiring between GPU0, GPU1 and GPU2; all other links lead to the processor. */
const GUESTS: readonly Guest[] = [
  {
    id: 1,
    assignment: "vm1",
    gpus: [
      { name: "GPU0", address: "0004:04:00.0", mask: 0x000c0000, own: [0, 4], foreign: [2, 3] },
      { name: "GPU1", address: "0004:05:00.0", mask: 0x000c0000, own: [0, 4], foreign: [2, 3] },
    ],
  },
  {
    id: 2,
    assignment: "vm2",
    gpus: [{ name: "GPU2", address: "0004:06:00.0", mask: 0x00170000, own: [], foreign: [0, 1, 2, 4] }],
  },
];

/** What a guest counted; see `guest/crossing_guest.mjs`. */
interface Found {
  resets: number;
  rounds: number;
  accesses: number;
  /** Words of its own GPUs that it saw through a link between them. */
  crossed: number;
  /** The disable register lacked bits; a link to another's GPU was up; something answered through one. */
  maskOpen: number;
  linkUp: number;
  readThrough: number;
  /** Words of the other guest, in its own memory or through a link. */
  foundInside: number;
  readForeign: number;
}

const LEAKS = ["maskOpen", "linkUp", "readThrough", "foundInside", "readForeign"] as const;

class TwoGuestsCheck {
  readonly #report: CheckReport;

  constructor(private readonly context: CheckContext) {
    this.#report = context.report;
  }

  async run(): Promise<void> {
    await this.#fenced();
    await this.#unfenced();
  }

  async #fenced(): Promise<void> {
    let example = README_ASSIGNS;
    await this.#report.run("the README's example is what runs here", () => {
      example = readmeExample();
      assert.deepEqual(example.slice(0, README_ASSIGNS.length), README_ASSIGNS);
      return example.join(" ");
    });
    const server = await LinkfenceServer.start(example, this.context.folder);
    const machines = GUESTS.map((guest) => this.#boot(guest, server.qemu(guest.assignment), CROSSING_S));
    await this.#report.scenario("two guests", CROSSING_S + AROUND_BUDGET, machines, async () => {
      await Promise.all(machines.map((machine) => machine.reach("begin")));
      const before = renewals(server);
      for (const machine of machines) machine.proceed();
      await Promise.all(machines.map((machine) => machine.reach("end")));
      const found = machines.map(foundBy);
      this.#judge(found, server, before);
      await this.#memories(server);
      for (const machine of machines) machine.kill();
      await Promise.all(machines.map((machine) => machine.ended));
      await checkQuiet(this.#report, "two guests", machines);
    });
    await server.end();
  }

  #judge(found: readonly Found[], server: LinkfenceServer, before: number): void {
    const sum = (name: keyof Found) => found.reduce((total, each) => total + each[name], 0);
    const seconds = `in ${CROSSING_S} s`;
    void this.#report.run("bytes cross between GPU0 and GPU1 inside guest 1 all the time", () => {
      assert.ok((found[0]?.crossed ?? 0) > CROSSING_S, `${found[0]?.crossed} times`);
      return `${found[0]?.crossed} words seen through links between them ${seconds}`;
    });
    void this.#report.run("no byte crosses between the guests, while both reset their GPUs", () => {
      for (const name of LEAKS) assert.equal(sum(name), 0, `${name}: ${JSON.stringify(found)}`);
      assert.ok(
        found.every(({ resets }) => resets >= CROSSING_S / 2),
        `too few resets: ${JSON.stringify(found)}`,
      );
      const counts = found.map(({ resets, accesses }) => `${resets} resets, ${accesses} accesses`);
      return `${counts.join(" and ")} ${seconds}, 0 leaks`;
    });
    void this.#report.run("every reset of a guest's was fenced and read back, none failed", () => {
      assert.deepEqual(
        server.events.filter(({ event, step }) => event === "error" || step === "failed"),
        [],
      );
      const fenced = renewals(server) - before;
      assert.ok(fenced >= sum("resets"), `${fenced} of ${sum("resets")}`);
      return `${fenced} times`;
    });
  }

  /** What the GPUs' memories hold, from the server's side: no guest's words in another's. */
  async #memories(server: LinkfenceServer): Promise<void> {
    await this.#report.run("from the host: no memory holds a word of the other guest's", () => {
      const counts = GUESTS.flatMap(({ id, gpus }) =>
        gpus.map(({ name }) => {
          const signers = signersIn(server.memoryFile(name));
          assert.deepEqual([...signers.keys()].filter((signer) => signer !== 0).join(), String(id), name);
          return `${name} ${signers.get(id)} words of guest ${id}`;
        }),
      );
      return counts.join(", ");
    });
  }

  /** The same guests on the same hardware with no fence: had they not found the others, the check above would say nothing. */
  async #unfenced(): Promise<void> {
    const folder = join(this.context.folder, "unfenced");
    mkdirSync(folder);
    const socketOf = (address: string) => join(folder, `${address}.sock`);
    const sockets: UnfencedSockets = Object.fromEntries(
      GUESTS.flatMap(({ gpus }) => gpus.map(({ address }) => [address, socketOf(address)])),
    );
    const server = await startServer({ module: new URL("./unfenced_serving.ts", import.meta.url), data: sockets });
    const machines = GUESTS.map((guest) =>
      this.#boot(
        guest,
        qemuArguments(
          guest.gpus.map(({ address }) => socketOf(address)),
          { virtual: true },
        ),
        UNFENCED_S,
      ),
    );
    await this.#report.scenario("without a fence", UNFENCED_S + AROUND_BUDGET, machines, async () => {
      await Promise.all(machines.map((machine) => machine.reach("begin")));
      for (const machine of machines) machine.proceed();
      await Promise.all(machines.map((machine) => machine.reach("end")));
      for (const [index, found] of machines.map(foundBy).entries()) {
        await this.#report.run(`without a fence guest ${index + 1} notices all of it: the check can fail`, () => {
          for (const name of LEAKS) assert.ok(found[name] > 0, `${name}: ${JSON.stringify(found)}`);
          return LEAKS.map((name) => `${name} ${found[name]}`).join(", ");
        });
      }
      for (const machine of machines) machine.kill();
      await Promise.all(machines.map((machine) => machine.ended));
    });
    await server.stop();
  }

  #boot(guest: Guest, devices: readonly string[], seconds: number): VirtualMachine {
    return new VirtualMachine(this.context.parts, {
      job: "node /linkfence/guest/v100/crossing_guest.mjs",
      env: { GUEST: String(guest.id), SECONDS: String(seconds), GPUS: JSON.stringify(guest.gpus) },
      files: GUEST_FILES,
      node: true,
      devices,
      timeoutS: seconds + AROUND_BUDGET,
    });
  }
}

/** How often GPUs were reset, fenced and read back. */
function renewals(server: LinkfenceServer): number {
  return GUESTS.flatMap(({ gpus }) => gpus).reduce((total, { name }) => total + server.steps(name, "done"), 0);
}

function foundBy(machine: VirtualMachine): Found {
  return JSON.parse(machine.results.get("found") ?? "{}") as Found;
}

/** How many words of each signer are in the first MiB of a file; words have their signer in the top four bits. */
function signersIn(path: string): Map<number, number> {
  const words = new Uint32Array(2 ** 18);
  const fd = openSync(path, "r");
  readSync(fd, words, 0, words.byteLength, 0);
  closeSync(fd);
  const signers = new Map<number, number>();
  for (const word of words) signers.set(word >>> 28, (signers.get(word >>> 28) ?? 0) + 1);
  return signers;
}

await runCheck((context) => new TwoGuestsCheck(context).run());
