import type { ChangeRequest } from "../../src/cli/serve/control_protocol.js";
import type { FenceStatus, Seen } from "../../src/cli/serve/messages.js";
import type { Changer, ServerStatus } from "../../src/cli/serve/server_status.js";
import { HOST } from "../../src/isolation/assignment.js";
import { builtinMachine } from "../../src/machine/builtin.js";
import type { Watched } from "../../src/web/watched.js";

const TIME = "2026-01-31T12:00:00.000Z";

/** A serving that does what the test says. */
export class FakeServing implements Watched {
  readonly machine = builtinMachine("sequoia");
  readonly planning = { includeHost: false };
  /** Of every GPU's fence. */
  state: FenceStatus["state"] = "in force";
  /** What looking waits for, and may fail with. */
  gate: Promise<void> = Promise.resolve();
  /** How often it was looked at. */
  looks = 0;
  /** How many looks are under way, and the most that ever were. */
  looking = 0;
  mostLooking = 0;
  readonly changes: { request: ChangeRequest; by: Changer }[] = [];
  /** What a change fails with. */
  refusal: Error | undefined;

  async status(): Promise<ServerStatus> {
    const { name, gpus } = this.machine;
    const vm1 = { name: "vm1", members: gpus.slice(0, 2).map(({ address }) => address) };
    const fence: FenceStatus = {
      ...{ state: this.state, since: null, stillCut: [], reason: this.state === "failed" ? "it is broken" : null },
      expected: { disableMask: 0, cut: [] },
      actual: { disableMask: null, cut: null, linksUp: null },
    };
    return {
      ...{ machine: name, virtual: true, pid: 1, startedAt: TIME, socketDir: "/run/fake", stateDir: "/var/lib/fake" },
      ledger: { version: 1, machine: name, virtual: true, writtenAt: TIME, assignments: [{ ...vm1, since: TIME }] },
      assignments: [{ ...vm1, notServed: [], pinnedBytes: "0" }],
      functions: gpus.map(({ name: gpu, address }) => {
        const own = vm1.members.includes(address);
        const socket = own ? `/run/fake/${gpu}.sock` : null;
        const base = { regions: [], iommuGroup: null, warnings: [], client: null };
        return { ...base, address, name: gpu, kind: "gpu", assignment: own ? "vm1" : HOST, socket, fence };
      }),
    };
  }

  async seen(): Promise<Seen> {
    this.looks++;
    this.mostLooking = Math.max(this.mostLooking, ++this.looking);
    try {
      await this.gate;
      return { gpus: this.machine.gpus, drivers: {} };
    } finally {
      this.looking--;
    }
  }

  async change(request: ChangeRequest, by: Changer): Promise<ServerStatus> {
    if (this.refusal !== undefined) throw this.refusal;
    this.changes.push({ request, by });
    return this.status();
  }
}

/** A promise, and what settles it. */
export function gate(): { promise: Promise<void>; open: () => void; fail: (error: Error) => void } {
  let open = () => {};
  let fail = (_: Error) => {};
  const promise = new Promise<void>((resolve, reject) => {
    [open, fail] = [resolve, reject];
  });
  // Whoever waits is told; nobody has to.
  promise.catch(() => {});
  return { promise, open, fail };
}
