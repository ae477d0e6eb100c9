import assert from "node:assert/strict";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { LINK_DISABLE } from "../../src/machine/part.js";
import { VfioUserClient } from "../../src/vfio-user/index.js";
import { json } from "./json_schema.js";
import { linkfence, linkfenceProcess, MAIN, printed, refused, scratchFolder } from "./linkfence.js";
import { type ServedJson, ServingProcess, type StatusJson } from "./serving_process.js";

const folder = scratchFolder();
const SEQUOIA = ["--machine", "sequoia"];
const ASSIGN = ["--assign", "vm1=GPU0,GPU1", "--assign", "vm2=GPU2"];

function mode(path: string): number {
  return statSync(path).mode & 0o7777;
}

/** Directories of a server's own, and the options that name them. */
function directories(name: string): { sockets: string; state: string; options: string[] } {
  const [sockets, state] = [folder.path(`${name}/run`), folder.path(`${name}/state`)];
  return { sockets, state, options: ["--socket-dir", sockets, "--state-dir", state] };
}

function ledger(state: string): { machine: string; assignments: { name: string; members: string[]; since: string }[] } {
  return JSON.parse(readFileSync(join(state, "ledger.json"), "utf8"));
}

function names(socketDir: string): string[] {
  return readdirSync(socketDir).sort();
}

/** The functions of the first two GPUs, and those of the third. */
const VM1 = [
  "GPU0-0004:04:00.0",
  "GPU1-0004:05:00.0",
  "NPU-0006:00:00.0",
  "NPU-0006:00:00.1",
  "NPU-0006:00:01.0",
  "NPU-0006:00:01.1",
].map((name) => `${name}.sock`);
const VM2 = ["GPU2-0004:06:00.0", "NPU-0006:00:02.0", "NPU-0006:00:02.1"].map((name) => `${name}.sock`);
const OWN = ["control.sock", "serve.lock"];

function maskOf(status: StatusJson, name: string): (string | null | undefined)[] {
  const fence = status.functions.find((each) => each.name === name)?.fence;
  return [fence?.state, fence?.expected.disableMask, fence?.actual.disableMask];
}

describe("serve", { concurrency: 2 }, () => {
  test("everything is fenced, served, changed, told and cleared away", async (t) => {
    // A place that a shell, JSON and XML each would read as something else.
    const { sockets, state, options } = directories(`it's "a" $(dir) <&> ünï 日本`);
    const talk = ["--socket-dir", sockets];
    const server = await ServingProcess.ready(...SEQUOIA, ...ASSIGN, ...options);
    const { ready } = server;

    await t.test("the first line says what is ready, and what to paste for each assignment", () => {
      assert.deepEqual([ready.pid, ready.fenced, ready.failures], [server.pid, true, []]);
      assert.deepEqual(
        ready.assignments.map(({ name, members, functions }) => [name, members, functions.length]),
        [
          ["vm1", ["GPU0", "GPU1"], 6],
          ["vm2", ["GPU2"], 3],
        ],
      );
      for (const { functions, qemu = [] } of ready.assignments) {
        const pasted = qemu.filter((word) => word.startsWith("{")).map((word) => JSON.parse(word).socket.path);
        assert.deepEqual(
          pasted,
          functions.map(({ socket }) => socket),
        );
        for (const path of pasted) assert.ok(statSync(path).isSocket(), path);
      }
    });

    await t.test("sockets and files are their owner's alone", () => {
      assert.deepEqual(names(sockets), [...VM1, ...VM2, ...OWN].sort());
      assert.deepEqual([mode(sockets), mode(state)], [0o700, 0o700]);
      for (const name of names(sockets)) assert.equal(mode(join(sockets, name)), 0o600, name);
      assert.equal(mode(join(state, "ledger.json")), 0o600);
      const { machine, assignments } = ledger(state);
      assert.deepEqual([machine, assignments.map(({ name }) => name)], ["sequoia", ["vm1", "vm2"]]);
    });

    await t.test("a second server on either directory is refused, and says who is there", async () => {
      const other = directories("other");
      const second = [...SEQUOIA, ...ASSIGN, "--socket-dir", sockets, "--state-dir", other.state];
      assert.match(
        refused(await linkfenceProcess("serve", ...second), "sockets"),
        new RegExp(`process ${server.pid}.*socket-dir`),
      );
      const third = [...SEQUOIA, ...ASSIGN, "--socket-dir", other.sockets, "--state-dir", state];
      assert.match(
        refused(await linkfenceProcess("serve", ...third), "state"),
        new RegExp(`process ${server.pid}.*state-dir`),
      );
      assert.deepEqual([existsSync(other.sockets), existsSync(other.state)], [false, false]);
    });

    await t.test("status says what is fenced and who is attached", async () => {
      const text = await printed(0, "status", ...talk);
      assert.match(text, /^sequoia \(virtual\): process \d+ since .*\n/);
      assert.match(text, /GPU0 +0004:04:00\.0 +vm1 +in force +\d\d:\d\d:\d\d +0x000c0000 +0 1 4 5\n/);
      const client = new VfioUserClient(join(sockets, VM1[0] ?? ""));
      try {
        assert.equal(Buffer.from(client.read(7, 0, 4)).readUInt32LE(), 0x1db110de);
        await server.event("connect", ({ socket }) => socket === join(sockets, VM1[0] ?? ""));
        const status = await json<StatusJson>(0, "status", ...talk);
        assert.deepEqual([status.pid, status.fenced], [server.pid, true]);
        assert.deepEqual(maskOf(status, "GPU0"), ["in force", "0x000c0000", "0x000c0000"]);
        assert.deepEqual(maskOf(status, "GPU2"), ["in force", "0x00170000", "0x00170000"]);
        const attached = status.functions.filter(({ client }) => client !== null);
        assert.deepEqual(
          attached.map(({ name, client }) => [name, client?.pid]),
          [["GPU0", process.pid]],
        );
        for (let i = 0; i < 200; i++) client.write(0, LINK_DISABLE, new Uint8Array(4));
        const guarded = () => server.events().filter(({ step }) => step === "guarded write").length;
        const counted = () =>
          server.events().reduce((sum, { what, of, count }) => sum + (told(what, of) ? (count ?? 0) : 0), 0);
        const told = (what?: string, of?: string) => what === "guarded write" && of === "GPU0";
        await server.line(() => guarded() + counted() === 200);
        assert.ok(counted() > 0, "most are counted, not logged");
        const move = ["vm1=GPU1", "vm2=GPU0,GPU2", ...talk];
        assert.match(refused(await linkfence("assign", ...move), "attached"), new RegExp(`process ${process.pid}`));
      } finally {
        client.close();
      }
      await server.event("disconnect");
    });

    await t.test("assign adds, replaces and ends assignments, and the ledger follows", async () => {
      const before = ledger(state).assignments;
      const served = await json<ServedJson>(0, "assign", "vm2=GPU2,GPU3", ...talk);
      assert.deepEqual(
        served.assignments.map(({ name, members }) => [name, members]),
        [
          ["vm1", ["GPU0", "GPU1"]],
          ["vm2", ["GPU2", "GPU3"]],
        ],
      );
      await server.event("changed");
      const status = await json<StatusJson>(0, "status", ...talk);
      assert.deepEqual(maskOf(status, "GPU4"), ["in force", "0x00110000", "0x00110000"]);
      const after = ledger(state).assignments;
      assert.deepEqual(after[1]?.members, ["0004:06:00.0", "0035:03:00.0"]);
      assert.equal(after[0]?.since, before[0]?.since, "what stays keeps its date");
      const text = await printed(0, "assign", "vm2=", "vm3=GPU3", ...talk);
      assert.match(text, /GPU3 +sequence: cut links/);
      assert.match(text, /vm3 \(GPU3\): after qemu-system-x86_64/);
      assert.deepEqual(
        ledger(state).assignments.map(({ name }) => name),
        ["vm1", "vm3"],
      );
      assert.ok(!names(sockets).includes(VM2[0] ?? ""));
    });

    await t.test("what cannot be is refused in one line, and nothing changes", async () => {
      const wrong: [string[], RegExp][] = [
        [["assign", "vm2=GPU9"], /GPU9.*GPU0, GPU1/],
        [["assign", "vm2=GPU0"], /GPU0/],
        [["assign", "vm2="], /vm2.*vm1, vm3/],
        [["assign", "vm2=GPU2", "vm2="], /twice/],
        [["assign", "host=GPU2"], /reserved/],
        [["assign", "nonsense"], /NAME=GPU/],
        [["release", "vm2"], /vm2.*vm1, vm3/],
        [["release", "vm1", "--machine", "redbud"], /serves sequoia, not redbud/],
      ];
      const before = [names(sockets), ledger(state)];
      for (const [args, says] of wrong) {
        assert.match(refused(await linkfence(...args, ...talk), args.join(" ")), says);
      }
      assert.deepEqual([names(sockets), ledger(state)], before);
    });

    await t.test("release fences anew and serves it no longer", async () => {
      const released = await json<{ server: boolean; left: string[] }>(0, "release", "vm3", ...SEQUOIA, ...talk);
      assert.deepEqual([released.server, released.left], [true, ["vm1"]]);
      assert.deepEqual(names(sockets), [...VM1, ...OWN].sort());
      const status = await json<StatusJson>(0, "status", ...talk);
      assert.deepEqual(maskOf(status, "GPU3"), ["in force", "0x00000000", "0x00000000"]);
    });

    await t.test("SIGTERM ends it in good order, and only the ledger stays", async () => {
      assert.deepEqual(await server.end("SIGTERM"), { status: 0, signal: null });
      assert.equal(server.stderr, "");
      assert.equal(server.events().at(-1)?.event, "stopped");
      assert.deepEqual([existsSync(sockets), names(state)], [false, ["ledger.json"]]);
      assert.match(refused(await linkfence("status", ...talk), "status"), /no server runs.*linkfence serve/);
      assert.match(refused(await linkfence("assign", "vm1=GPU0", ...talk), "assign"), /no server runs/);
    });
  });

  test("after kill -9 the next one takes over what was left, and serves what the ledger says", async () => {
    const { sockets, state, options } = directories("killed");
    const first = await ServingProcess.ready(...SEQUOIA, ...ASSIGN, ...options);
    assert.deepEqual(await first.end("SIGKILL"), { status: null, signal: "SIGKILL" });
    assert.deepEqual(names(sockets), [...VM1, ...VM2, ...OWN].sort());
    assert.match(refused(await linkfence("status", "--socket-dir", sockets), "status"), /no server runs/);

    const second = await ServingProcess.ready(...SEQUOIA, ...options);
    const served = second.ready.assignments.map(({ name, members }) => [name, members]);
    assert.deepEqual(served, [
      ["vm1", ["GPU0", "GPU1"]],
      ["vm2", ["GPU2"]],
    ]);
    assert.deepEqual(await second.end("SIGINT"), { status: 0, signal: null });
    const fenced = second.events().filter(({ event, step }) => event === "fence" && step === "done");
    assert.deepEqual(fenced.map(({ gpu }) => gpu).sort(), ["GPU0", "GPU1", "GPU2"]);
    assert.deepEqual(names(sockets), [], "the directory was not made by the one that ended");

    const text = await printed(0, "release", "vm2", "--socket-dir", sockets, "--state-dir", state);
    assert.equal(text, "vm2 is released; vm1 stays assigned\n");
    const alone = await json<{ server: boolean; left: string[] }>(0, "release", "vm1", ...options);
    assert.deepEqual([alone.server, alone.left], [false, []]);
    assert.deepEqual(ledger(state).assignments, []);
    assert.match(refused(await linkfence("release", "vm1", ...options), "release"), /vm1/);
  });

  test("people read lines: steps, what to add to the domain, events; a group may connect", async () => {
    const { sockets, options } = directories("text");
    const gid = String(process.getegid?.());
    const more = ["--print", "libvirt", "--socket-group", gid, "--gpu-memory", "32", "--ram-as-bar"];
    const args = ["serve", "--machine", "c4140", "--assign", "a=GPU0", ...options, ...more];
    const server = new ServingProcess([MAIN, ...args]);
    await server.line((line) => line.includes("Ctrl-C"));
    const text = server.lines.join("\n");
    assert.match(text, /^c4140 \(virtual\): .*4 GPUs\n/);
    assert.match(text, /GPU0 +sequence: cut links 0, 1, 2, 3, 4, 5 .*\(mask 0x003f0000\)/);
    assert.match(text, /fenced, serving 1 function: a \(GPU0\)/);
    assert.match(text, /<domain type='kvm' xmlns:qemu=.*"path":.*<\/domain>/s);
    assert.ok(!text.includes("\x1b"));
    const [socket = ""] = names(sockets).filter((name) => name.startsWith("GPU0"));
    assert.deepEqual([mode(sockets), mode(join(sockets, socket))], [0o750, 0o660]);
    assert.equal(mode(join(sockets, "control.sock")), 0o600);
    const client = new VfioUserClient(join(sockets, socket));
    const label = socket.replace(".sock", "");
    await server.line((line) =>
      line.endsWith(`${label} connected: process ${process.pid}, uid ${process.geteuid?.()}, gid ${gid}`),
    );
    client.close();
    await server.line((line) => line.includes(`${label} disconnected`));
    // As with npm, which hands on what the terminal has sent already.
    process.kill(server.pid, "SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 2));
    assert.deepEqual(await server.end("SIGINT"), { status: 0, signal: null });
    assert.equal(server.lines.at(-1), "stopped: SIGINT");
    assert.equal(existsSync(sockets), false);
  });
});

/** What is not served, what for, and what the error has to name. Nothing must be left behind. */
const REFUSED: [string, string[], RegExp][] = [
  ["a GPU that this host has not", ["--live", "--assign", "a=GPU77"], /has no GPU "GPU77"/],
  ["virtual memory of a live host", ["--live", "--assign", "a=GPU0", "--ram-as-bar"], /for virtual hardware only/],
  ["trust in a virtual machine's VMM", ["--machine", "redbud", "--assign", "a=GPU0", "--trust-vmm"], /for --live only/],
  ["no machine", ["--assign", "a=GPU0"], /name a machine/],
  ["no assignment", SEQUOIA, /--assign/],
  ["a GPU that is not there", [...SEQUOIA, "--assign", "a=GPU9"], /GPU9/],
  ["a plan that cannot isolate", [...SEQUOIA, "--assign", "a=GPU0", "--assign", "b=GPU0"], /nothing was touched/],
  ["a group that is not there", [...SEQUOIA, ...ASSIGN, "--socket-group", "no-such-group"], /no such group/],
  ["a group that is none", [...SEQUOIA, ...ASSIGN, "--socket-group", ""], /no such group/],
  ["another size of memory", [...SEQUOIA, ...ASSIGN, "--gpu-memory", "24"], /16, 32/],
  ["another form", [...SEQUOIA, ...ASSIGN, "--print", "xen"], /qemu, libvirt/],
  ["an argument too many", ["extra", ...SEQUOIA, ...ASSIGN], /too many arguments/],
];

/** Directories that are not used, what is there, and what the error has to name. */
const BAD_DIRECTORIES: [string, (path: string) => void, RegExp][] = [
  ["a file", (path) => folder.file(path.slice(folder.path("").length), ""), /no directory/],
  ["a directory that others can write to", (path) => mkdirSync(path, { mode: 0o777 }), /written by others/],
  ["a link to a file", (path) => symlinkSync("/etc/passwd", path), /no directory/],
];

describe("what serve refuses", { concurrency: 4 }, () => {
  for (const [at, [what, args, names]] of REFUSED.entries()) {
    test(`${what} is refused, and nothing is left behind`, async () => {
      const { sockets, state, options } = directories(`no${at}`);
      assert.match(refused(await linkfence("serve", ...options, ...args), what), names);
      assert.deepEqual([existsSync(sockets), existsSync(state)], [false, false]);
    });
  }

  for (const option of ["--socket-dir", "--state-dir"]) {
    for (const [at, [what, make, names]] of BAD_DIRECTORIES.entries()) {
      test(`${what} is refused as ${option}`, async () => {
        const bad = folder.path(`bad${option}${at}`);
        const umask = process.umask(0);
        make(bad);
        process.umask(umask);
        const good = folder.path(`good${option}${at}`);
        const other = option === "--socket-dir" ? "--state-dir" : "--socket-dir";
        const args = ["serve", ...SEQUOIA, ...ASSIGN, option, bad, other, good];
        assert.match(refused(await linkfence(...args), what), names);
        assert.equal(existsSync(good), false);
      });
    }
  }

  test("a directory whose sockets would have paths that are too long is refused, with what to do", async () => {
    const long = folder.path("x".repeat(80));
    const args = ["serve", ...SEQUOIA, ...ASSIGN, "--socket-dir", long, "--state-dir", folder.path("long")];
    assert.match(refused(await linkfence(...args), "long"), /107.*shorter/);
    assert.deepEqual([existsSync(long), existsSync(folder.path("long"))], [false, false]);
  });

  test("what is no socket and in the place of one is refused, and stays", async () => {
    for (const name of ["control.sock", "GPU5-0035:05:00.0.sock", "NPU-0006:00:00.0.sock"]) {
      const sockets = folder.path(`way-${name.slice(0, 3)}`);
      mkdirSync(sockets, { mode: 0o700 });
      folder.file(`way-${name.slice(0, 3)}/${name}`, "mine");
      const args = ["serve", ...SEQUOIA, ...ASSIGN, "--socket-dir", sockets, "--state-dir", folder.path("way")];
      assert.match(refused(await linkfence(...args), name), /in the way; remove it/);
      assert.deepEqual([names(sockets), existsSync(folder.path("way"))], [[name], false]);
    }
  });

  test("a ledger of another machine or of no meaning is refused, and stays as it is", async () => {
    const time = "2026-01-31T12:00:00.000Z";
    const redbud = { version: 1, machine: "redbud", virtual: true, writtenAt: time };
    const entry = { name: "vm1", members: ["0004:04:00.0"], since: time };
    const texts: [string, RegExp][] = [
      [JSON.stringify({ ...redbud, virtual: false, assignments: [entry] }), /another machine, redbud.*--state-dir/],
      ["{", /ledger\.json.*remove it/],
      ["", /ledger\.json/],
    ];
    for (const [text, says] of texts) {
      const state = folder.path("strange");
      mkdirSync(state, { recursive: true, mode: 0o700 });
      folder.file("strange/ledger.json", text);
      const args = ["serve", ...SEQUOIA, ...ASSIGN, "--socket-dir", folder.path("run"), "--state-dir", state];
      assert.match(refused(await linkfence(...args), text), says);
      assert.equal(readFileSync(join(state, "ledger.json"), "utf8"), text);
      assert.deepEqual([existsSync(folder.path("run")), names(state)], [false, ["ledger.json"]]);
    }
  });
});
