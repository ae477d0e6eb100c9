import { HOST, ownersOf } from "../src/isolation/assignment.js";
import type { Assignment, Machine } from "../src/machine/machine.js";
import type { View } from "../src/web/page/connection.js";
import type { PageState } from "../src/web/snapshot.js";

type Function = PageState["status"]["functions"][number];

/** What the page shows of a machine that is served so; processes are connected to the GPUs that `clients` names. */
export function viewOf(
  machine: Machine,
  assignments: readonly Assignment[] = [],
  { clients = [], more = {} }: { clients?: readonly string[]; more?: Partial<View> } = {},
): View {
  const owner = ownersOf(machine, assignments);
  const functions = machine.gpus.map(({ name, address }): Function => {
    const client = clients.includes(name) ? { pid: 4711, uid: 0, gid: 0, since: "2025-01-01T00:00:00.000Z" } : null;
    const socket = owner(address) === HOST ? null : `/run/linkfence/${address}.sock`;
    const assignment = owner(address);
    return { address, name, kind: "gpu", assignment, socket, client, regions: [], iommuGroup: null, warnings: [] };
  });
  return {
    connected: true,
    machine,
    assignments,
    clockAhead: 0,
    planning: { includeHost: false },
    state: {
      status: {
        machine: machine.name,
        ...(machine.virtual && { virtual: true }),
        pid: 1,
        startedAt: "2025-01-01T00:00:00.000Z",
        socketDir: "/run/linkfence",
        stateDir: "/var/lib/linkfence",
        fenced: true,
        assignments: assignments.map((each) => ({ ...each, notServed: [], pinnedBytes: "0", since: "" })),
        functions,
      },
      gpus: machine.gpus,
      drivers: {},
      snippets: [],
    },
    history: [],
    ...more,
  };
}
