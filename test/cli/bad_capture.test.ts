import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { breaches } from "./json_schema.js";
import { linkfence, printed, refused, scratchFolder } from "./linkfence.js";

const folder = scratchFolder();
let intact = "";
before(async () => {
  const out = folder.path("intact.json");
  await printed(0, "fence", "--machine", "redbud", "--assign", "a=GPU0", "--assign", "b=GPU1", "--out", out);
  intact = await printed(0, "capture", "--capture", out);
});

// biome-ignore lint/suspicious/noExplicitAny: a test that damages JSON by hand
type Any = any;

/** A change that the JSON schema of captures tells too: what is wrong, how it comes about, what the error has to name. */
const OF_FORM: [string, (file: Any) => void, RegExp][] = [
  ["no machine", (file) => delete file.machine, /machine/],
  ["a machine that is a list", (file) => (file.machine = []), /machine/],
  ["an unknown field", (file) => (file.machine.surprise = 1), /machine\.surprise/],
  ["no name", (file) => delete file.machine.name, /machine\.name/],
  ["an empty name", (file) => (file.machine.name = ""), /machine\.name/],
  ["a name that drives a terminal", (file) => (file.machine.name = "\x1b[31m"), /machine\.name/],
  ["a name of two lines", (file) => (file.machine.name = "a\nb"), /machine\.name/],
  ["an endless name", (file) => (file.machine.name = "x".repeat(5000)), /machine\.name/],
  ["a number for a truth value", (file) => (file.machine.virtual = 1), /machine\.virtual/],
  ["an unknown platform", (file) => (file.machine.platform = "vax"), /machine\.platform/],
  ["functions that are none", (file) => (file.machine.functions = {}), /machine\.functions/],
  ["a function that is null", (file) => (file.machine.functions[3] = null), /machine\.functions\.3/],
  ["an address that is none", (file) => (file.machine.functions[0].address = "4:0.0"), /functions\.0\.address/],
  ["a vendor id beyond 16 bits", (file) => (file.machine.functions[0].vendorId = 0x10000), /vendorId/],
  ["a negative id", (file) => (file.machine.functions[0].deviceId = -1), /deviceId/],
  ["half an id", (file) => (file.machine.functions[0].deviceId = 1.5), /deviceId/],
  ["an id that is text", (file) => (file.machine.functions[0].deviceId = "0x1db1"), /deviceId/],
  ["a class code beyond 24 bits", (file) => (file.machine.functions[0].classCode = 2 ** 24), /classCode/],
  ["a capability outside config space", (file) => (file.machine.functions[0].capabilities[0].offset = 4096), /offset/],
  ["a memory base that is a number", (file) => (file.machine.memory[0].base = 42), /memory\.0\.base/],
  ["a base that is not hexadecimal", (file) => (file.machine.memory[0].base = "42"), /memory\.0\.base/],
  ["a size beyond 64 bits", (file) => (file.machine.memory[0].size = "0x10000000000000000"), /memory\.0\.size/],
  ["an unknown part", (file) => (file.machine.gpus[0].part = "GV999"), /gpus\.0\.part/],
  ["an unknown link state", (file) => (file.machine.gpus[0].links[0].state = "gone"), /links\.0\.state/],
  ["a negative link number", (file) => (file.machine.gpus[0].links[0].number = -1), /links\.0\.number/],
  ["a link to nowhere known", (file) => (file.machine.gpus[0].links[0].far = { kind: "moon" }), /links\.0\.far/],
  ["a far end without its GPU", (file) => delete file.machine.gpus[0].links[0].far.gpu, /links\.0\.far\.gpu/],
  [
    "257 links",
    (file) => (file.machine.gpus[0].links = Array(257).fill(file.machine.gpus[0].links[0])),
    /gpus\.0\.links/,
  ],
  [
    "a register value beyond 32 bits",
    (file) => (file.machine.gpus[0].links[0].evidence.registers[0].value = "0x100000000"),
    /evidence\.registers\.0\.value/,
  ],
  [
    "a register value that is a number",
    (file) => (file.machine.gpus[0].links[0].evidence.registers[0].value = 5),
    /evidence\.registers\.0\.value/,
  ],
  ["evidence that is text", (file) => (file.machine.gpus[0].links[0].evidence = "seen"), /links\.0\.evidence/],
  ["an unknown origin", (file) => (file.machine.gpus[0].origin = "hearsay"), /gpus\.0\.origin/],
  ["a group number beyond 31 bits", (file) => (file.machine.groups = [{ id: 2 ** 31, members: [] }]), /groups\.0\.id/],
  ["assignments that are none", (file) => (file.machine.assignments = { a: "GPU0" }), /machine\.assignments/],
  ["an assignment without a name", (file) => (file.machine.assignments[0].name = ""), /assignments\.0\.name/],
];

/** A change that only reading a capture tells: each field is as it should be, together they are not. */
const OF_SENSE: [string, (file: Any) => void, RegExp][] = [
  ["an address that is not canonical", (file) => (file.machine.functions[0].address = "00000004:00:00.0"), /address/],
  ["one address twice", (file) => file.machine.functions.push(file.machine.functions[0]), /0004:00:00\.0.*twice/],
  ["one GPU twice", (file) => file.machine.gpus.push(file.machine.gpus[0]), /twice/],
  ["one GPU name twice", (file) => (file.machine.gpus[1].name = "gpu0"), /gpu0.*twice/],
  ["one link twice", (file) => file.machine.gpus[0].links.push(file.machine.gpus[0].links[0]), /links of GPU0.*twice/],
  [
    "a GPU that is no function",
    (file) => (file.machine.gpus[0].address = "0000:00:1f.0"),
    /GPU0.*none of the functions/,
  ],
  ["an assignment called host", (file) => (file.machine.assignments[0].name = "host"), /host.*reserved/],
  ["two assignments of one name", (file) => (file.machine.assignments[1].name = "a"), /assignments.*twice/],
  ["a member that is no function", (file) => file.machine.assignments[0].members.push("ffff:00:00.0"), /ffff:00:00\.0/],
  [
    "a function in two groups",
    (file) => (file.machine.groups = [0, 1].map((id) => ({ id, members: ["0004:04:00.0"] }))),
    /0004:04:00\.0.*twice/,
  ],
];

function damaged(name: string, change: (file: Any) => void): { path: string; value: unknown } {
  const value = JSON.parse(intact);
  change(value);
  return { path: folder.file(`${name.replaceAll(" ", "-")}.json`, JSON.stringify(value)), value };
}

describe("damaged captures", { concurrency: 4 }, () => {
  test("the intact one holds to its schema and is audited", async () => {
    assert.deepEqual(breaches("capture-file", JSON.parse(intact)), []);
    await printed(0, "audit", "--capture", folder.path("intact.json"));
  });

  for (const [what, change, names] of OF_FORM) {
    test(`a capture with ${what} is refused by the name of the field, and its schema says so too`, async () => {
      const { path, value } = damaged(what, change);
      const line = refused(await linkfence("audit", "--capture", path), what);
      assert.match(line, names);
      assert.match(line, /^linkfence: damaged capture: /);
      assert.notDeepEqual(breaches("capture-file", value), [], what);
    });
  }

  for (const [what, change, names] of OF_SENSE) {
    test(`a capture with ${what} is refused`, async () => {
      const line = refused(await linkfence("audit", "--capture", damaged(what, change).path), what);
      assert.match(line, names);
      assert.match(line, /^linkfence: damaged capture: /);
    });
  }

  for (const version of [0, 2, "1", null, undefined]) {
    test(`version ${JSON.stringify(version)} is refused by its number`, async () => {
      const { path } = damaged(`version ${version}`, (file) => (file.version = version));
      const line = refused(await linkfence("verify", "--capture", path), path);
      assert.match(line, /version .* not supported, this linkfence reads version 1/);
    });
  }

  test("nesting without end is refused", async () => {
    const nest = `${"[".repeat(1e6)}${"]".repeat(1e6)}`;
    const path = folder.file(
      "nest.json",
      JSON.stringify({ ...JSON.parse(intact), machine: 0 }).replace(/0}$/, `${nest}}`),
    );
    assert.match(refused(await linkfence("audit", "--capture", path), "nest"), /damaged capture: machine/);
  });

  const others = ["{", "[]", "null", "{}", '{"linkfence":"ledger","version":1}', "[".repeat(100_000)];
  for (const [index, text] of others.entries()) {
    test(`JSON that is no capture is refused: ${text.slice(0, 20)}`, async () => {
      const path = folder.file(`other-${index}.json`, text);
      assert.match(refused(await linkfence("audit", "--capture", path), text.slice(0, 20)), /no capture file/);
    });
  }
});
