import type { FunctionStatus } from "../src/cli/serve/messages.js";
import { writeCapture } from "../src/machine/capture.js";
import type { Assignment, Machine } from "../src/machine/machine.js";
import type { PageEvent, PageState, Snapshot } from "../src/web/snapshot.js";

const TIME = "2026-01-31T12:00:00.000Z";

type FenceJson = NonNullable<PageState["status"]["functions"][number]["fence"]>;

/** What a server would tell a page of any machine, sound or not: each GPU with a fence, in turn in each state. */
export function stateOf(machine: Machine, assignments: readonly Assignment[] = []): PageState {
  const owner = (address: string) => assignments.find(({ members }) => members.includes(address))?.name ?? "host";
  const functions = machine.gpus.map(({ address, name, links }, index) => {
    const served = owner(address) !== "host";
    const fn: Omit<FunctionStatus, "fence"> = {
      address,
      name,
      kind: "gpu",
      assignment: owner(address),
      socket: served ? `/run/linkfence/GPU-${address}.sock` : null,
      client: served && index % 2 === 0 ? { pid: 4711, uid: 1000, gid: 1000, since: TIME } : null,
      regions: [],
      iommuGroup: null,
      warnings: index % 3 === 0 ? [`${name} goes without something`] : [],
    };
    return {
      ...fn,
      fence: fenceOf(
        links.map(({ number }) => number),
        index,
      ),
    };
  });
  return {
    status: {
      machine: machine.name,
      ...(machine.virtual && { virtual: true as const }),
      pid: 4711,
      startedAt: TIME,
      socketDir: "/run/linkfence",
      stateDir: "/var/lib/linkfence",
      fenced: functions.every(({ fence }) => fence.state !== "failed"),
      assignments: assignments.map((each) => ({ ...each, notServed: [], pinnedBytes: "0", since: TIME })),
      functions,
    },
    gpus: machine.gpus,
    drivers: {},
    snippets: assignments.map(({ name }) => ({
      name,
      qemu: `-name ${name} \\\n-m 4G`,
      libvirt: `<domain>${name}</domain>`,
    })),
  };
}

/** The same as a page gets it to begin with. */
export function snapshotOf(
  machine: Machine,
  assignments: readonly Assignment[] = [],
  { history = [], state = stateOf(machine, assignments) }: { history?: PageEvent[]; state?: PageState } = {},
): Snapshot {
  return { machine: writeCapture(machine, TIME), planning: { includeHost: false }, state, history };
}

const DETAILED = new Set(["sequence", "done"]);

/** The events of a GPU's resets, one every minute. */
export function resetsOf(gpu: string, count: number, first = 1): PageEvent[] {
  const steps = ["far ends", "npu reset", "sbr", "restore", "sequence", "read back", "done"];
  return Array.from({ length: count * steps.length }, (_, index): PageEvent => {
    const step = steps[index % steps.length] ?? "";
    const time = new Date(Date.parse(TIME) + Math.floor(index / steps.length) * 60_000 + (index % steps.length) * 30);
    return {
      number: first + index,
      time: time.toISOString(),
      event: "fence",
      gpu,
      step,
      ...(DETAILED.has(step) && { detail: "cut links 2, 3" }),
    };
  });
}

function fenceOf(links: readonly number[], index: number): FenceJson {
  const [cut, up] = [links.filter((link) => link % 2 === 0), links.filter((link) => link % 2 !== 0)];
  const unknown = { disableMask: null, cut: null, linksUp: null };
  const expected = { disableMask: "0x00050000", cut };
  const base = { since: null, expected, actual: unknown, stillCut: [], reason: null };
  const states: FenceJson[] = [
    { ...base, state: "in force", since: TIME, actual: { disableMask: "0x00050000", cut, linksUp: up } },
    {
      ...base,
      state: "in force",
      since: TIME,
      actual: { disableMask: "0x00070000", cut: links.slice(0, 3), linksUp: [] },
      stillCut: [1],
    },
    { ...base, state: "renewing" },
    { ...base, state: "failed", reason: "link 0 does not read as cut" },
    { ...base, state: "unfenced" },
  ];
  return states[index % states.length] ?? { ...base, state: "unfenced" };
}
