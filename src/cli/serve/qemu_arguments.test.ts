import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { libvirtLines } from "./libvirt_xml.js";
import { qemuArguments, shellLines } from "./qemu_arguments.js";

const VIRTUAL = { virtual: true };

const ODD = [
  "/run/linkfence/GPU0-0004:04:00.0.sock",
  `/tmp/it's "a" $(dir) \\ \`x\` ünï 日本/NPU-0006:00:00.0.sock`,
  "/a,b=c/d",
];

/** The words as a shell hands them to a program. */
function wordsOf(lines: readonly string[]): string[] {
  const { stdout, status } = spawnSync("sh", ["-c", `printf '%s\\0' ${lines.join("\n")}`], { encoding: "utf8" });
  assert.equal(status, 0);
  return stdout.split("\0").slice(0, -1);
}

function sockets(values: readonly string[]): string[] {
  return values.filter((value) => value.startsWith("{")).map((value) => JSON.parse(value).socket.path);
}

test("a shell makes of the lines exactly the options, and QEMU's JSON has exactly the paths", () => {
  const options = qemuArguments(ODD, VIRTUAL);
  const words = wordsOf(shellLines(options));
  assert.deepEqual(words, options);
  assert.deepEqual(sockets(words), ODD);
});

test("each function has a port of its own, and no id is there twice", () => {
  const values = qemuArguments(ODD, VIRTUAL);
  const ports = values.flatMap(
    (value) => /^pcie-root-port,id=([\w-]+),bus=pcie\.0,chassis=76,slot=(\d+)$/.exec(value)?.slice(1, 3) ?? [],
  );
  assert.deepEqual(ports, ["linkfence-port1", "1", "linkfence-port2", "2", "linkfence-port3", "3"]);
  const buses = values.filter((value) => value.startsWith("{")).map((value) => JSON.parse(value).bus);
  assert.deepEqual(buses, ["linkfence-port1", "linkfence-port2", "linkfence-port3"]);
});

test("guest memory is shared, of one size, and the ports use native hotplug", () => {
  const options = shellLines(qemuArguments(["/a"], VIRTUAL)).map((line) => line.replace(/ \\$/, ""));
  assert.ok(options.includes("-m 4G"));
  assert.ok(options.includes("-object memory-backend-memfd,id=linkfence-memory,size=4G,share=on"));
  assert.ok(options.includes("-machine memory-backend=linkfence-memory"));
  assert.ok(options.includes("-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"));
});

test("the domain's XML has shared memory, QEMU's namespace, and each word as a shell would hand it over", () => {
  const xml = libvirtLines(ODD, VIRTUAL).join("\n");
  assert.match(xml, /xmlns:qemu='http:\/\/libvirt\.org\/schemas\/domain\/qemu\/1\.0'/);
  assert.match(xml, /<source type='memfd'\/>\s+<access mode='shared'\/>/);
  const entities: Record<string, string> = { amp: "&", lt: "<", gt: ">", apos: "'", quot: '"' };
  const values = [...xml.matchAll(/<qemu:arg value='([^'<]*)'\/>/g)].map(([, value = ""]) =>
    value.replace(/&(\w+);/g, (all, name: string) => entities[name] ?? all),
  );
  const options = qemuArguments(ODD, VIRTUAL);
  assert.deepEqual(values, options.slice(options.indexOf("-global")));
});

test("QEMU waits longer for real hardware, and for guest memory that is pinned for it", () => {
  const devices = (virtual: boolean) => qemuArguments(["/a"], { virtual }).filter((value) => value.startsWith("{"));
  assert.deepEqual(
    devices(false).map((value) => JSON.parse(value)["x-msg-timeout"]),
    [120_000],
  );
  assert.deepEqual(
    devices(true).map((value) => JSON.parse(value)["x-msg-timeout"]),
    [undefined],
  );
});
