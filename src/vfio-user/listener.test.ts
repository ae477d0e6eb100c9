import assert from "node:assert/strict";
import { once } from "node:events";
import {
  chmodSync,
  constants,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { whileFailing } from "../../test/failing_call.js";
import { runs } from "../../test/runs.js";
import { openFiles } from "../../test/vfio_user/open_files.js";
import { acceptUnix, connectUnix, LOCK_EX, listenUnix, OsError, openFile, tryLock } from "../os/index.js";
import type { VfioDevice } from "../vfio/index.js";
import { startServer, VfioUserServer } from "./index.js";
import { Listener } from "./listener.js";

const root = mkdtempSync(join(tmpdir(), "linkfence-listener-"));
let directory = root;
let path = join(root, "device.sock");
let idle: ReturnType<typeof openFiles>;
let tests = 0;

const isRoot = process.geteuid?.() === 0;
/** A group that this process may give its files to, and not the one that they have anyway. */
const group = isRoot ? 54_321 : process.getgroups?.().find((id) => id !== process.getegid?.());
const needsGroup = { skip: group === undefined ? "this user is in one group only" : false };
const device: VfioDevice = { regions: [], irqs: [], read() {}, write() {} };

beforeEach(() => {
  directory = join(root, String(tests++));
  mkdirSync(directory);
  path = join(directory, "device.sock");
  idle = openFiles();
});

afterEach(() => assert.deepEqual(openFiles(), idle, "descriptors or mappings were leaked"));
after(() => rmSync(root, { recursive: true }));

function isOsError(code: string) {
  return (error: unknown) => error instanceof OsError && error.code === code;
}

/** Leaves a socket file behind, as a killed server does. */
function leaveBehind(): void {
  listenUnix(path).close();
}

function mode(file: string): number {
  return statSync(file).mode & 0o777;
}

function isListening(socket: string): boolean {
  try {
    connectUnix(socket).close();
    return true;
  } catch {
    return false;
  }
}

/** Runs with a umask that would let anybody in. */
function withoutUmask<T>(run: () => T): T {
  const umask = process.umask(0);
  try {
    return run();
  } finally {
    process.umask(umask);
  }
}

test("a listener takes over what was left behind, and leaves nothing but its socket, then nothing", () => {
  for (const prepare of [() => {}, leaveBehind]) {
    prepare();
    const listener = new Listener(path);
    assert.deepEqual(readdirSync(directory), ["device.sock"]);
    connectUnix(path).close();
    acceptUnix(listener.fd)?.close();
    assert.throws(() => new Listener(path), isOsError("EADDRINUSE"));
    connectUnix(path).close();
    listener.close();
    listener.close();
    assert.deepEqual(readdirSync(directory), []);
  }
});

test("a path that cannot be listened at is refused, and nothing is left behind", () => {
  writeFileSync(path, "not a socket");
  assert.throws(() => new Listener(path), isOsError("EADDRINUSE"));
  assert.throws(() => new Listener(join(directory, "absent", "device.sock")), isOsError("ENOENT"));
  assert.throws(() => new Listener(join(directory, "x".repeat(120))), isOsError("ENAMETOOLONG"));
  assert.throws(() => new Listener(join(directory, "x".repeat(300))), isOsError("ENAMETOOLONG"));
  assert.throws(() => new Listener(""), isOsError("ENAMETOOLONG"));
  assert.deepEqual(readdirSync(directory), ["device.sock"]);
});

test("a file that has taken the socket's place is left where it is", () => {
  const listener = new Listener(path);
  rmSync(path);
  writeFileSync(path, "somebody else's");
  listener.close();
  assert.equal(existsSync(path), true);
});

test("a server that is about to listen keeps others away, and one that was killed then does not", () => {
  const lockPath = join(directory, ".device.sock.lock");
  writeFileSync(lockPath, "");
  const lock = openFile(lockPath, constants.O_RDONLY);
  assert.equal(tryLock(lock, LOCK_EX), true);
  assert.throws(() => new Listener(path), /EADDRINUSE/);
  assert.throws(() => new Listener(path), /another server is about to listen there/);
  assert.equal(existsSync(lockPath), true);
  lock.close();
  new Listener(path).close();
  assert.deepEqual(readdirSync(directory), []);
});

test("a lock file that leads elsewhere is not followed", () => {
  symlinkSync(join(directory, "elsewhere"), join(directory, ".device.sock.lock"));
  assert.throws(() => new Listener(path), isOsError("ELOOP"));
  assert.equal(existsSync(join(directory, "elsewhere")), false);
});

test("of two servers that find the same socket left behind in the same instant one gets it, and can be connected to", async () => {
  const rounds = runs(50);
  const shared = new Int32Array(new SharedArrayBuffer(16));
  const code = `
    (async () => {
      const { workerData: { module, fromSource, path, shared, rounds } } = await import("node:worker_threads");
      if (fromSource) (await import("tsx/esm/api")).register();
      const { Listener } = await import(module);
      for (let round = 1; round <= rounds; round++) {
        Atomics.add(shared, 1, 1);
        while (Atomics.load(shared, 0) < 2 * round - 1);
        let listener;
        try {
          listener = new Listener(path);
          Atomics.add(shared, 2, 1);
        } catch (error) {
          if (error.code !== "EADDRINUSE") Atomics.add(shared, 2, 100);
        }
        Atomics.add(shared, 3, 1);
        while (Atomics.load(shared, 0) < 2 * round) Atomics.wait(shared, 0, 2 * round - 1, 100);
        listener?.close();
      }
    })();`;
  const module = new URL("./listener.js", import.meta.url).href;
  const fromSource = import.meta.url.endsWith(".ts");
  const workers = [0, 1].map(
    () => new Worker(code, { eval: true, workerData: { module, fromSource, path, shared, rounds } }),
  );
  const reached = async (at: number, count: number) => {
    const deadline = performance.now() + 5000;
    while (Atomics.load(shared, at) < count) {
      if (performance.now() > deadline) throw new Error("the workers do not go on");
      await sleep(1);
    }
  };
  const winners: number[] = [];
  const unreachable: number[] = [];
  try {
    for (let round = 0; round < rounds; round++) {
      await reached(1, 2 * (round + 1));
      leaveBehind();
      Atomics.store(shared, 2, 0);
      Atomics.store(shared, 0, 2 * round + 1);
      await reached(3, 2 * (round + 1));
      winners.push(Atomics.load(shared, 2));
      if (!isListening(path)) unreachable.push(round);
      Atomics.store(shared, 0, 2 * round + 2);
      Atomics.notify(shared, 0);
    }
    await Promise.all(workers.map((worker) => once(worker, "exit")));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  assert.deepEqual(unreachable, []);
  assert.deepEqual(winners, new Array(rounds).fill(1));
  assert.deepEqual(readdirSync(directory), []);
});

test("sockets are their owner's alone, or a group's when one is given, whatever the umask", needsGroup, async () => {
  const paths = ["own", "shared", "worker's"].map((name) => join(directory, name)) as [string, string, string];
  const own = withoutUmask(() => new VfioUserServer([{ socket: paths[0], device }]));
  const shared = withoutUmask(() => new VfioUserServer([{ socket: paths[1], device }], { group }));
  assert.equal(mode(paths[0]), 0o600);
  assert.equal(mode(paths[1]), 0o660);
  assert.equal(statSync(paths[0]).gid, process.getegid?.());
  assert.equal(statSync(paths[1]).gid, group);
  own.close();
  shared.close();
  const module = new URL("../../test/vfio_user/test_device.js", import.meta.url);
  const worker = await startServer({ module, data: [paths[2]], group });
  assert.deepEqual([mode(paths[2]), statSync(paths[2]).gid], [0o660, group]);
  await worker.stop();
  assert.deepEqual(readdirSync(directory), []);
});

test("with a narrow umask a group gets its sockets all the same", needsGroup, () => {
  const umask = process.umask(0o777);
  let server: VfioUserServer | undefined;
  try {
    server = new VfioUserServer([{ socket: path, device }], { group });
  } finally {
    process.umask(umask);
  }
  assert.equal(mode(path), 0o660);
  server.close();
});

test("what is no group's id is refused, and nothing is left behind", () => {
  for (const id of [-1, 1.5, Number.NaN, 2 ** 32 - 1, 2 ** 32]) {
    assert.throws(() => new Listener(path, id), /EINVAL|no group's id/);
  }
  leaveBehind();
  assert.throws(() => new Listener(path, -1), isOsError("EINVAL"));
  assert.deepEqual(readdirSync(directory), []);
});

test("a group that the server is not in is refused by name, and nothing is left behind", () => {
  const asOther = isRoot;
  chmodSync(root, 0o755);
  chmodSync(directory, 0o777);
  if (asOther) process.seteuid?.(65_534);
  try {
    const devices = ["first.sock", "second.sock"].map((name) => ({ socket: join(directory, name), device }));
    assert.throws(
      () => new VfioUserServer(devices, { group: 54_322 }),
      (error: unknown) => {
        assert.ok(error instanceof OsError);
        assert.equal(error.code, "EPERM");
        assert.match(error.message, /first\.sock to group 54322 \(one has to be in it, or root\)/);
        return true;
      },
    );
  } finally {
    if (asOther) process.seteuid?.(0);
  }
  assert.deepEqual(readdirSync(directory), []);
});

test("a relative path is served and removed where it was when the server began", () => {
  const before = process.cwd();
  try {
    process.chdir(directory);
    const server = new VfioUserServer([{ socket: "device.sock", device }]);
    mkdirSync("elsewhere");
    process.chdir("elsewhere");
    writeFileSync("device.sock", "another");
    server.close();
    assert.deepEqual(readdirSync(directory), ["elsewhere"]);
    assert.deepEqual(readdirSync("."), ["device.sock"]);
  } finally {
    process.chdir(before);
  }
});

test("a server for which there are too few descriptors leaves none behind", () => {
  const before = openFiles();
  for (const name of ["memfd_create", "eventfd"] as const) {
    whileFailing(name, () => assert.throws(() => new VfioUserServer([])));
  }
  assert.deepEqual(openFiles(), before);
});
