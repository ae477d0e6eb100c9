import assert from "node:assert/strict";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";
import { ledgerPath, saveLedger } from "../../src/cli/serve/ledger_file.js";
import { PrivateDirectory } from "../../src/cli/serve/private_directory.js";
import { Disk, type DiskState, type Operation, operationOf } from "./disk_model.js";
import { intercept } from "./file_calls.js";
import { assertGoesOn, CHANGES, oldOrNew } from "./old_or_new.js";

// The power fails after each call of a write: whatever a disk may have then is the old ledger or the new one.

const folder = mkdtempSync(join(existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "linkfence-power-"));
after(() => rmSync(folder, { recursive: true }));
let folders = 0;

interface Recorded {
  root: string;
  stateDir: string;
  before: DiskState;
  operations: Operation[];
}

/** What making a state directory and changing its ledger has the kernel do. */
async function record({ from, to }: (typeof CHANGES)[number]): Promise<Recorded> {
  const root = join(folder, `recorded${folders++}`);
  mkdirSync(root);
  const stateDir = join(root, "var/linkfence");
  if (from !== undefined) {
    mkdirSync(stateDir, { recursive: true, mode: 0o700 });
    await saveLedger(stateDir, from);
  }
  const before = stateOf(root);
  const operations: Operation[] = [];
  const work = async () => {
    new PrivateDirectory(stateDir, "--state-dir");
    await saveLedger(stateDir, to);
  };
  await intercept(work, (call, perform) => {
    const result = perform();
    const operation = operationOf(call, result);
    if (operation !== undefined) operations.push(operation);
    return result;
  });
  return { root, stateDir, before, operations };
}

function stateOf(root: string): Map<string, Buffer | "directory"> {
  const paths = readdirSync(root, { recursive: true, encoding: "utf8" }).map((name) => join(root, name));
  const content = (path: string) => (statSync(path).isDirectory() ? "directory" : readFileSync(path));
  return new Map([[root, "directory"], ...paths.map((path) => [path, content(path)] as const)]);
}

/** Looks at every state after each of the operations, and returns how many there were, each counted once. */
async function crash(
  { root, stateDir, before, operations }: Recorded,
  look: (stateDir: string, isDone: boolean) => Promise<void> | void,
): Promise<number> {
  const disk = new Disk(before);
  const seen = new Set<string>();
  for (let done = 0; done <= operations.length; done++) {
    const operation = operations[done - 1];
    if (operation !== undefined) disk.do(operation);
    for (const state of disk.states()) {
      const isDone = done === operations.length;
      const key = JSON.stringify([isDone, ...[...state].map(([path, content]) => [path, content.toString("latin1")])]);
      if (seen.has(key)) continue;
      seen.add(key);
      const place = join(folder, `state${folders++}`);
      for (const [path, content] of state) {
        const at = place + path.slice(root.length);
        mkdirSync(content === "directory" ? at : dirname(at), { recursive: true });
        if (content !== "directory") writeFileSync(at, content);
      }
      await look(place + stateDir.slice(root.length), isDone);
      rmSync(place, { recursive: true });
    }
  }
  return seen.size;
}

for (const change of CHANGES) {
  test(`whatever the disk has after a power loss is the old ledger or the new: ${change.name}`, async (t) => {
    const recorded = await record(change);
    assert.ok(
      recorded.operations.some(({ kind }) => kind === "rename"),
      "the write was not seen",
    );
    const found = { old: 0, new: 0 };
    const states = await crash(recorded, async (stateDir, isDone) => {
      const state = oldOrNew(stateDir, change.from, change.to);
      assert.ok(state === "new" || !isDone, "written, and yet lost");
      found[state]++;
      mkdirSync(stateDir, { recursive: true });
      await assertGoesOn(stateDir);
    });
    assert.ok(found.old > 0 && found.new > 0);
    t.diagnostic(
      `${recorded.operations.length} calls, ${states} states: ${found.old} times the old, ${found.new} the new`,
    );
  });
}

/** The same calls with a mistake. */
const MISTAKES: readonly { name: string; make: (recorded: Recorded) => Operation[] }[] = [
  {
    name: "the file is not synced",
    make: ({ operations, stateDir }) => withoutSync(operations, (path) => path.startsWith(`${stateDir}/`)),
  },
  {
    name: "its directory is not synced",
    make: ({ operations, stateDir }) => withoutSync(operations, (path) => path === stateDir),
  },
  {
    name: "it is written in its place",
    make: ({ operations, stateDir }) => {
      const path = ledgerPath(stateDir);
      return operations
        .filter(({ kind }) => kind !== "rename")
        .map((each) => (each.kind === "open" && each.path.startsWith(path) ? { ...each, path, truncate: true } : each));
    },
  },
  {
    name: "it is renamed before it is written",
    make: ({ operations }) => {
      const rename = operations.find(({ kind }) => kind === "rename");
      const rest = operations.filter((each) => each !== rename);
      const write = rest.findIndex(({ kind }) => kind === "write");
      return rename === undefined ? rest : rest.toSpliced(write, 0, rename);
    },
  },
  {
    name: "the old one is removed first",
    make: ({ operations, stateDir }) => [{ kind: "unlink", path: ledgerPath(stateDir) }, ...operations],
  },
];

function withoutSync(operations: readonly Operation[], isIt: (path: string) => boolean): Operation[] {
  const open = new Map<number, string>();
  return operations.filter((each) => {
    if (each.kind === "open") open.set(each.fd, each.path);
    return !(each.kind === "sync" && isIt(open.get(each.fd) ?? ""));
  });
}

async function breaches(recorded: Recorded, { from, to }: (typeof CHANGES)[number]): Promise<number> {
  let count = 0;
  await crash(recorded, (stateDir, isDone) => {
    try {
      if (oldOrNew(stateDir, from, to) === "old" && isDone) count++;
    } catch {
      count++;
    }
  });
  return count;
}

for (const { name, make } of MISTAKES) {
  test(`a write is found wanting when ${name}`, async (t) => {
    const [, change] = CHANGES;
    assert.ok(change);
    const recorded = await record(change);
    const found = await breaches({ ...recorded, operations: make(recorded) }, change);
    assert.ok(found > 0);
    t.diagnostic(`${found} states with neither, or with the old one after the write was done`);
  });
}

test("a first ledger is found wanting when the directory that its own was made in is not synced", async () => {
  const [change] = CHANGES;
  assert.ok(change);
  const recorded = await record(change);
  const operations = withoutSync(recorded.operations, (path) => path === dirname(recorded.stateDir));
  assert.ok((await breaches({ ...recorded, operations }, change)) > 0);
});
