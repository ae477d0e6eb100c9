import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { makeSysfsTree } from "../../bench/sysfs_tree.js";
import { missing } from "../../test/device_tree_sample.js";
import type { PciAddress } from "../pci/address.js";
import { HostRoot } from "./host_root.js";
import { readIommuGroups } from "./iommu_groups.js";
import { readPciFunctions } from "./pci_sysfs.js";

const FUNCTIONS = 100;
const root = mkdtempSync(join(tmpdir(), "linkfence-sysfs-"));
before(() => makeSysfsTree(root, FUNCTIONS));
after(() => rmSync(root, { recursive: true, force: true }));

test("functions, ids, drivers, nodes and groups are those lspci shows of the same tree", {
  skip: missing("lspci"),
}, () => {
  const host = new HostRoot(root);
  const { functions, folders, unknown } = readPciFunctions(host);
  const groups = readIommuGroups(host, folders).groups ?? [];
  assert.deepEqual([functions.length, unknown], [FUNCTIONS, []]);
  const groupOf = new Map(groups.flatMap(({ id, members }) => members.map((member) => [member, id] as const)));
  const ours = functions.map(({ address, vendorId, deviceId, subsystemId, classCode, driver, numaNode }) =>
    spelled({
      Slot: address,
      Class: hex((classCode ?? 0) >>> 8),
      Vendor: hex(vendorId),
      Device: hex(deviceId),
      SDevice: subsystemId === undefined || subsystemId === 0 ? undefined : hex(subsystemId),
      Driver: driver,
      NUMANode: numaNode?.toString(),
      IOMMUGroup: groupOf.get(address)?.toString(),
    }),
  );
  assert.deepEqual(ours, lspci().map(spelled));
});

test("parents are those of the tree lspci draws", { skip: missing("lspci") }, () => {
  const { functions } = readPciFunctions(new HostRoot(root));
  const parents = new Map(functions.map(({ address, parent }) => [address, parent]));
  const path = (address: PciAddress): string => {
    const parent = parents.get(address);
    return typeof parent === "string" ? `${path(parent)}/${address.slice(5)}` : address;
  };
  const paths = run(["-D", "-PP", "-n"]).map((line) => line.split(" ", 1)[0]);
  assert.deepEqual(
    functions.map(({ address }) => path(address)),
    paths,
  );
});

const FIELDS = ["Slot", "Class", "Vendor", "Device", "SDevice", "Driver", "NUMANode", "IOMMUGroup"] as const;
type Fields = Partial<Record<(typeof FIELDS)[number], string | undefined>>;

function spelled(fields: Fields): string {
  return FIELDS.map((field) => `${field} ${fields[field] ?? "-"}`).join(", ");
}

function hex(value: number | undefined): string {
  return (value ?? 0).toString(16).padStart(4, "0");
}

function lspci(): Fields[] {
  const records = run(["-D", "-vmm", "-n", "-k"]).join("\n").split("\n\n");
  return records
    .map((record) => Object.fromEntries(record.split("\n").map((line) => line.split(":\t"))))
    .filter((fields) => fields.Slot !== undefined)
    .map((fields) => (fields.SDevice === "0000" ? { ...fields, SDevice: undefined } : fields));
}

function run(options: readonly string[]): string[] {
  const args = ["-O", `sysfs.path=${root}/sys/bus/pci`, ...options];
  const { status, stdout, stderr } = spawnSync("lspci", args, { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout.split("\n").slice(0, -1);
}
