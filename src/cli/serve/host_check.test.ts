import assert from "node:assert/strict";
import { test } from "node:test";
import { builtinMachine } from "../../machine/builtin.js";
import type { Machine } from "../../machine/machine.js";
import { refuseUnservableHost } from "./host_check.js";

const OPTIONS = { allowInUse: false, held: new Set<string>() };
const GPU0 = "0000:1a:00.0";
const GPU1 = "0000:1c:00.0";

/** A C4140 as if it were a real host, with these changes. */
function host(change: (machine: Machine) => void): Machine {
  const machine = { ...structuredClone(builtinMachine("c4140")), virtual: false };
  change(machine);
  return machine;
}

function driven(machine: Machine, address: string, driver: string): void {
  const fn = machine.functions.find((each) => each.address === address);
  assert.ok(fn !== undefined);
  fn.driver = driver;
}

test("a host without IOMMU groups serves nothing, and it is said what to do", () => {
  const machine = host((each) => {
    each.groups = [];
  });
  const assignments = [{ name: "vm1", members: [GPU0] }];
  assert.throws(() => refuseUnservableHost(machine, assignments, OPTIONS), /has no IOMMU groups.*intel_iommu=on/);
});

test("a group is one owner's", () => {
  const machine = host((each) => {
    each.groups = [{ id: 7, members: [GPU0, GPU1] }];
  });
  const assignments = [
    { name: "vm1", members: [GPU0] },
    { name: "vm2", members: [GPU1] },
  ];
  assert.throws(
    () => refuseUnservableHost(machine, assignments, OPTIONS),
    /group 7 has functions of vm1 and vm2.*0000:1a:00\.0, 0000:1c:00\.0/,
  );
});

test("a group with functions that drivers of the host have is refused with their names, and with what to type", () => {
  const machine = host((each) => {
    each.groups = [{ id: 7, members: [GPU0, GPU1] }];
    driven(each, GPU1, "nvidia");
  });
  assert.throws(
    () => refuseUnservableHost(machine, [{ name: "vm1", members: [GPU0] }], OPTIONS),
    /group 7 is not viable.*0000:1c:00\.0 \(nvidia\).*--assign vm1=\.\.\.,0000:1c:00\.0/,
  );
});
