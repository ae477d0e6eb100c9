import assert from "node:assert/strict";
import { test } from "node:test";
import { BUILTIN_MACHINES, builtinMachine } from "./builtin.js";
import { readCapture, writeCapture } from "./capture.js";

const text = writeCapture(builtinMachine("sequoia"), "2026-01-01T00:00:00Z");

/** The capture with one thing changed. */
// biome-ignore lint/suspicious/noExplicitAny: a test that damages JSON by hand
function damaged(change: (file: any) => void): string {
  const file = JSON.parse(text);
  change(file);
  return JSON.stringify(file);
}

/** The function of the file's n-th GPU. */
// biome-ignore lint/suspicious/noExplicitAny: a test that damages JSON by hand
function functionOf(file: any, gpu: number): object {
  const { address } = file.machine.gpus[gpu];
  return file.machine.functions.find((fn: { address: string }) => fn.address === address);
}

test("every built-in machine comes back as it was written", () => {
  for (const { name } of BUILTIN_MACHINES) {
    const machine = builtinMachine(name);
    assert.deepEqual(readCapture(writeCapture(machine, "2026-01-01T00:00:00Z")), machine, name);
  }
});

test("registers and 64-bit numbers are hexadecimal in the file", () => {
  assert.match(text, /"base": "0x3e000000000"/);
  const machine = builtinMachine("sequoia");
  const [gpu] = machine.gpus;
  const [link] = gpu?.links ?? [];
  assert.ok(gpu && link);
  link.evidence = { registers: [{ offset: 0xa00148, value: 0xffff0000 }] };
  const written = writeCapture(machine, "");
  assert.match(written, /"offset": "0xa00148",\s+"value": "0xffff0000"/);
  assert.deepEqual(readCapture(written).gpus[0]?.links[0]?.evidence, link.evidence);
});

test("another version is refused by name", () => {
  const versions = [0, 2, "1", null, undefined].map((version) => damaged((file) => Object.assign(file, { version })));
  for (const one of versions) assert.throws(() => readCapture(one), { code: "ECAPTURE_VERSION" });
});

test("what is no capture is refused", () => {
  for (const one of ["", "{", "[]", "null", "7", "{}", '{"linkfence":"ledger"}', "[".repeat(100_000)]) {
    assert.throws(() => readCapture(one), { code: "ECAPTURE" }, one.slice(0, 20));
  }
});

test("a damaged field is named", () => {
  // biome-ignore lint/suspicious/noExplicitAny: a test that damages JSON by hand
  const cases: [(file: any) => void, RegExp][] = [
    [(file) => delete file.machine, /machine/],
    [(file) => Object.assign(file.machine, { surprise: 1 }), /machine\.surprise/],
    [(file) => Object.assign(file.machine.gpus[0], { address: "../etc" }), /machine\.gpus\.0\.address/],
    [(file) => Object.assign(file.machine.gpus[0], { address: "0004:04:1f.0" }), /GPU GPU0 .* none of the functions/],
    [(file) => Object.assign(file.machine.gpus[0], { name: "a\u001b[2J" }), /machine\.gpus\.0\.name: has control/],
    [(file) => Object.assign(file.machine.gpus[0].links[0], { number: -1 }), /links\.0\.number/],
    [(file) => Object.assign(file.machine.gpus[0].links[1], { number: 0 }), /links of GPU0: 0 is there twice/],
    [(file) => Object.assign(file.machine.gpus[1], { name: "gpu0" }), /GPU names: gpu0 is there twice/],
    [(file) => Object.assign(file.machine.functions[0].bars[0] ?? file.machine.memory[0], { size: "big" }), /size/],
    [(file) => Object.assign(file.machine, { assignments: [{ name: "host", members: [] }] }), /"host"/],
    [(file) => Object.assign(file.machine, { assignments: [{ name: "a", members: ["0009:00:00.0"] }] }), /none of/],
    [
      (file) =>
        Object.assign(file.machine, { assignments: [{ name: "a", members: ["0004:04:00.0", "0004:04:00.0"] }] }),
      /assignment a: 0004:04:00\.0 is there twice/,
    ],
    [(file) => Object.assign(file.machine.gpus[0], { part: "GA100" }), /GPU0 is called a GA100, and device 10de:1db1/],
    [
      (file) => Object.assign(functionOf(file, 0), { deviceId: 0x20b0 }),
      /GPU0 is called a GV100, and device 10de:20b0/,
    ],
    [
      (file) => Object.assign(functionOf(file, 0), { deviceId: 0x1e30 }),
      /GPU0 is called a GV100, and device 10de:1e30/,
    ],
    [
      (file) => Object.assign(functionOf(file, 0), { vendorId: 0x1002 }),
      /GPU0 is called a GV100, and device 1002:1db1/,
    ],
    [(file) => Object.assign(file.machine.gpus[0], { nvlink: "none" }), /GPU0 is said to have no NVLinks/],
  ];
  for (const [change, expected] of cases) {
    assert.throws(() => readCapture(damaged(change)), { code: "ECAPTURE", message: expected }, String(expected));
  }
});

test("a file cannot claim a cut link: the state follows the registers", () => {
  const states = (evidence?: object) =>
    readCapture(damaged((file) => Object.assign(file.machine.gpus[0].links[2], { state: "cut", ...evidence }))).gpus[0]
      ?.links[2]?.state;
  const registers = (value: string) => ({
    evidence: {
      registers: [
        { offset: "0x200", value: "0x2000000" },
        { offset: "0xa00148", value },
      ],
    },
  });
  assert.equal(states(), "unknown");
  assert.equal(states(registers("0x40000")), "cut");
  assert.equal(states(registers("0x80000")), "unknown");
  for (const value of ["0xbadf1204", "0xbad0ffff", "0xffffffff"]) assert.equal(states(registers(value)), "unknown");
});

test("links of a part that the file leaves out come back with unknown far ends, a device of no table keeps its part", () => {
  const [gpu] = readCapture(damaged((file) => file.machine.gpus[0].links.splice(1, 3))).gpus;
  assert.deepEqual(
    gpu?.links.map(({ number, far }) => `${number} ${far.kind}`),
    ["0 gpu", "4 gpu", "5 bridge", "1 unknown", "2 unknown", "3 unknown"],
  );
  const stranger = damaged((file) => Object.assign(functionOf(file, 0), { deviceId: 0x9999 }));
  assert.equal(readCapture(stranger).gpus[0]?.part, "GV100");
});

test("what is wrong with a long text is a short line", () => {
  const long = "long ".repeat(5000);
  // biome-ignore lint/suspicious/noExplicitAny: a test that damages JSON by hand
  const changes: ((file: any) => void)[] = [
    (file) => Object.assign(file.machine, { platform: long }),
    (file) => Object.assign(file.machine, { [long]: 1 }),
    (file) => Object.assign(file.machine.gpus[1], { name: long, address: "0004:04:1f.0" }),
    (file) => Object.assign(file.machine, { assignments: [long, long].map((name) => ({ name, members: [] })) }),
  ];
  for (const change of changes) {
    assert.throws(() => readCapture(damaged(change)), /^MachineError: damaged capture: .{1,500}$/);
  }
});
