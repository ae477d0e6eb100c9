import assert from "node:assert/strict";
import { test } from "node:test";
import { made, port, portWithoutAcs } from "../../test/made_up_machine.js";
import type { PciFunction } from "../pci/function.js";
import { Hierarchy } from "../pci/hierarchy.js";
import { enableAllAcs, pcieJoins } from "./acs_groups.js";
import { DisjointSets } from "./disjoint_sets.js";

function groups(functions: PciFunction[], acsOf?: typeof enableAllAcs): string {
  const sets = new DisjointSets<string>();
  for (const fn of functions) sets.add(fn.address);
  for (const { a, b } of pcieJoins(functions, new Hierarchy(functions), acsOf)) sets.join(a, b);
  return sets
    .sets()
    .map((set) => set.map((address) => address.slice(5)).join(" "))
    .join(" | ");
}

test("a root port with ACS gives what is below it a group of its own", () => {
  assert.equal(
    groups([
      port("0000:00:01.0", "root-port", 1),
      made("0000:01:00.0"),
      port("0000:00:02.0", "root-port", 2),
      made("0000:02:00.0"),
    ]),
    "00:01.0 | 01:00.0 | 00:02.0 | 02:00.0",
  );
});

test("a root port without ACS shares its group with what is below it", () => {
  assert.equal(groups([portWithoutAcs("0000:00:01.0", "root-port", 1), made("0000:01:00.0")]), "00:01.0 01:00.0");
});

test("downstream ports without ACS in slots of their own group with what is below, not with each other", () => {
  assert.equal(
    groups([
      port("0000:00:01.0", "root-port", 1),
      portWithoutAcs("0000:01:00.0", "upstream-port", 2),
      portWithoutAcs("0000:02:00.0", "downstream-port", 3),
      portWithoutAcs("0000:02:01.0", "downstream-port", 4),
      made("0000:03:00.0"),
      made("0000:04:00.0"),
    ]),
    "00:01.0 | 01:00.0 | 02:00.0 03:00.0 | 02:01.0 04:00.0",
  );
});

test("downstream ports without ACS that are functions of one slot group everything below them", () => {
  assert.equal(
    groups([
      port("0000:00:01.0", "root-port", 1),
      portWithoutAcs("0000:01:00.0", "upstream-port", 2),
      { ...portWithoutAcs("0000:02:00.0", "downstream-port", 3), multifunction: true },
      portWithoutAcs("0000:02:00.1", "downstream-port", 4),
      made("0000:03:00.0"),
      made("0000:04:00.0"),
    ]),
    "00:01.0 | 01:00.0 | 02:00.0 02:00.1 03:00.0 04:00.0",
  );
});

test("a switch below a port without ACS is one group however good its own ports are", () => {
  assert.equal(
    groups([
      portWithoutAcs("0000:00:01.0", "root-port", 1),
      port("0000:01:00.0", "upstream-port", 2),
      port("0000:02:00.0", "downstream-port", 3),
      made("0000:03:00.0"),
      port("0000:02:01.0", "downstream-port", 4),
      made("0000:04:00.0"),
    ]),
    "00:01.0 01:00.0 02:00.0 03:00.0 02:01.0 04:00.0",
  );
});

test("everything behind a bridge to conventional PCI is one group with that bridge", () => {
  assert.equal(
    groups([
      port("0000:00:01.0", "root-port", 1),
      portWithoutAcs("0000:01:00.0", "pcie-to-pci-bridge", 2),
      made("0000:02:00.0", { type: null }),
      made("0000:02:01.0", { type: null }),
      portWithoutAcs("0000:02:02.0", null, 3),
      made("0000:03:00.0", { type: null }),
    ]),
    "00:01.0 | 01:00.0 02:00.0 02:01.0 02:02.0 03:00.0",
  );
});

test("functions of one device are one group unless they have ACS", () => {
  const pair = (acs?: PciFunction["acs"]) => [
    port("0000:00:01.0", "root-port", 1),
    made("0000:01:00.0", { multifunction: true, ...(acs && { acs }) }),
    made("0000:01:00.1", acs && { acs }),
  ];
  assert.equal(groups(pair()), "00:01.0 | 01:00.0 01:00.1");
  assert.equal(groups(pair({ supported: 0x0c, enabled: 0x0c })), "00:01.0 | 01:00.0 | 01:00.1");
  assert.equal(groups(pair({ supported: 0x0c, enabled: 0x04 })), "00:01.0 | 01:00.0 01:00.1");
});

test("conventional devices on the root bus are apart unless they are functions of one", () => {
  const pci = (address: string) => made(address, { type: null, parent: null });
  assert.equal(
    groups([pci("0000:00:03.0"), pci("0000:00:04.0"), pci("0000:00:05.0"), pci("0000:00:05.1")]),
    "00:03.0 | 00:04.0 | 00:05.0 00:05.1",
  );
});

test("Intel's integrated endpoints are apart although they are functions of one device without ACS", () => {
  const integrated = (address: string, vendorId: number) => made(address, { type: "root-complex-endpoint", vendorId });
  assert.equal(groups([integrated("0000:00:14.0", 0x8086), integrated("0000:00:14.2", 0x8086)]), "00:14.0 | 00:14.2");
  assert.equal(groups([integrated("0000:00:14.0", 0x1022), integrated("0000:00:14.2", 0x1022)]), "00:14.0 00:14.2");
});

test("virtual functions are apart whatever their numbers, and from their physical function, below a port with ACS", () => {
  const physical = made("0000:01:00.0", { multifunction: false });
  const virtual = ["0000:01:00.1", "0000:01:10.0", "0000:01:10.2"].map((address) =>
    made(address, { physicalFunction: physical.address, multifunction: false }),
  );
  const below = [physical, ...virtual];
  assert.equal(
    groups([port("0000:00:01.0", "root-port", 1), ...below]),
    "00:01.0 | 01:00.0 | 01:00.1 | 01:10.0 | 01:10.2",
  );
  assert.equal(
    groups([portWithoutAcs("0000:00:01.0", "root-port", 1), ...below]),
    "00:01.0 01:00.0 01:00.1 01:10.0 01:10.2",
  );
});

test("a bit that a port cannot switch counts as on, one that is off does not", () => {
  const below = (acs: PciFunction["acs"]) => groups([port("0000:00:01.0", "root-port", 1, acs), made("0000:01:00.0")]);
  assert.equal(below({ supported: 0x0d, enabled: 0x0d }), "00:01.0 | 01:00.0");
  assert.equal(below({ supported: 0x1d, enabled: 0x0d }), "00:01.0 01:00.0");
});

test("ACS that is only switched off could separate, and the action names the boot parameter with the missing bits", () => {
  const functions = [port("0000:00:01.0", "root-port", 1, { supported: 0x5f, enabled: 0x01 }), made("0000:01:00.0")];
  const [join] = pcieJoins(functions, new Hierarchy(functions));
  assert.match(join?.action ?? "", /pci=config_acs=xx111xx@0000:00:01\.0/);
  assert.match(join?.reason ?? "", /root port 0000:00:01\.0 has ACS switched off/);
  assert.equal(groups(functions, enableAllAcs), "00:01.0 | 01:00.0");
});

test("no action is offered when one port on the way lacks ACS", () => {
  const functions = [
    portWithoutAcs("0000:00:01.0", "root-port", 1),
    made("0000:01:00.0", { type: "upstream-port", headerType: 1, buses: { primary: 1, secondary: 2, subordinate: 3 } }),
    port("0000:02:00.0", "downstream-port", 3, { supported: 0x1d, enabled: 0 }),
    made("0000:03:00.0"),
  ];
  const joins = pcieJoins(functions, new Hierarchy(functions));
  assert.equal(joins.find((join) => join.a === "0000:03:00.0")?.action, null);
});

test("a domain behind a VMD is one, whatever its ports say", () => {
  assert.equal(
    groups([
      port("10000:00:02.0", "root-port", 0xe1),
      made("10000:e1:00.0"),
      port("10000:00:03.0", "root-port", 0xe2),
      made("10001:e1:00.0", { parent: null }),
    ]),
    ":00:02.0 :e1:00.0 :00:03.0 | :e1:00.0",
  );
});

test("a join is certain only where the capabilities that could isolate were read", () => {
  const unread = (address: string, secondary?: number) =>
    made(address, {
      type: null,
      parent: secondary === undefined ? "0000:00:01.0" : null,
      ...(secondary !== undefined && { headerType: 1, buses: { primary: 0, secondary, subordinate: secondary } }),
    });
  const certain = (functions: PciFunction[]) =>
    pcieJoins(functions, new Hierarchy(functions)).map((join) => join.certain);
  assert.deepEqual(certain([unread("0000:00:01.0", 1), unread("0000:01:00.0")]), [false]);
  assert.deepEqual(certain([portWithoutAcs("0000:00:01.0", "root-port", 1), unread("0000:01:00.0")]), [true]);
  assert.deepEqual(certain([made("0000:41:00.0"), made("0000:42:00.0")]), [false]);
  assert.deepEqual(certain([unread("0000:01:00.0"), unread("0000:01:00.1")].map((fn) => ({ ...fn, parent: null }))), [
    false,
    false,
  ]);
});

test("every port on the way without ACS is in the action, lowest first", () => {
  const off = { supported: 0x1d, enabled: 0 };
  const functions = [
    port("0000:00:01.0", "root-port", 1, off),
    { ...port("0000:01:00.0", "upstream-port", 2) },
    port("0000:02:00.0", "downstream-port", 3, off),
    made("0000:03:00.0"),
  ];
  const join = pcieJoins(functions, new Hierarchy(functions)).find(({ a }) => a === "0000:03:00.0");
  assert.match(join?.action ?? "", /config_acs=xx111x1@0000:02:00\.0;xx111x1@0000:00:01\.0 /);
  assert.match(join?.reason ?? "", /switch downstream port 0000:02:00\.0 has ACS switched off/);
});

test("functions whose path is not known are not called separate", () => {
  assert.equal(groups([made("0000:41:00.0"), made("0000:42:00.0"), made("0001:41:00.0")]), "41:00.0 42:00.0 | 41:00.0");
});

test("parents in a circle isolate nothing and end the walk", () => {
  const loop = [
    { ...port("0000:01:00.0", "downstream-port", 2), parent: "0000:02:00.0" },
    { ...port("0000:02:00.0", "downstream-port", 1), parent: "0000:01:00.0" },
    made("0000:03:00.0", { parent: "0000:02:00.0" }),
  ];
  assert.match(groups(loop), /02:00\.0 03:00\.0/);
});
