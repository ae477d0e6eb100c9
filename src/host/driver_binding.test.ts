import assert from "node:assert/strict";
import { readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { type Entry, madeUpFunction, madeUpHost } from "../../test/made_up_host.js";
import { bindToVfio, giveBack, readBinding, unbind } from "./driver_binding.js";
import { HostError } from "./error.js";

const GPU = "0000:1a:00.0";
const FOLDER = `sys/bus/pci/devices/${GPU}`;

/** A host with one GPU; a made-up sysfs does nothing when it is written to, so drivers stay where they are. */
function host(t: TestContext, files: Record<string, Entry>, drivers: readonly string[] = []): string {
  const loaded = Object.fromEntries(drivers.map((name) => [`sys/bus/pci/drivers/${name}`, "folder/" as const]));
  const probe = { "sys/bus/pci/drivers_probe": "" };
  return madeUpHost(t, { ...madeUpFunction("pci0000:00", GPU, files), ...loaded, ...probe });
}

const has = (root: string, name: string) => readFileSync(join(root, FOLDER, name), "utf8");
const driver = (name: string) => ({ link: `../../../bus/pci/drivers/${name}` });

function refusal(code: string, message: RegExp) {
  return (error: unknown) => error instanceof HostError && error.code === code && message.test(error.message);
}

test("a binding is who has the function, whom it is offered to, and whether it may be suspended", (t) => {
  const root = host(t, { driver: driver("nvidia"), driver_override: "(null)\n", "power/control": "auto\n" });
  const bound = { address: GPU, driver: "nvidia", override: null, powerControl: "auto" };
  assert.deepEqual(readBinding(GPU, root), bound);
  const bare = host(t, { driver_override: "vfio-pci\n" });
  assert.deepEqual(readBinding(GPU, bare), { address: GPU, driver: null, override: "vfio-pci", powerControl: null });
});

test("a hold of our own is no former override", (t) => {
  const root = host(t, { driver_override: "linkfence\n" });
  assert.equal(readBinding(GPU, root).override, null);
});

test("a function that is gone is said to be", (t) => {
  const root = host(t, {});
  rmSync(join(root, FOLDER));
  for (const act of [() => readBinding(GPU, root), () => bindToVfio(GPU, root), () => unbind(GPU, root)]) {
    assert.throws(act, refusal("EGONE", /0000:1a:00\.0 is gone/));
  }
});

test("without an IOMMU group vfio-pci gets nothing, and the message says what to boot with", (t) => {
  const root = host(t, { driver: driver("nvidia"), driver_override: "(null)\n" }, ["vfio-pci"]);
  assert.throws(() => bindToVfio(GPU, root), refusal("EBIND", /IOMMU.*intel_iommu=on/));
  assert.equal(has(root, "driver_override"), "(null)\n");
});

test("without vfio-pci nothing is touched, and the message says modprobe", (t) => {
  const root = host(t, { iommu_group: { link: "../../../kernel/iommu_groups/3" }, driver_override: "(null)\n" });
  assert.throws(() => bindToVfio(GPU, root), refusal("EBIND", /modprobe vfio-pci/));
  assert.equal(has(root, "driver_override"), "(null)\n");
});

test("a function that vfio-pci does not take has its former override again", (t) => {
  const group = { link: "../../../kernel/iommu_groups/3" };
  const root = host(t, { iommu_group: group, driver_override: "pci-stub\n" }, ["vfio-pci"]);
  assert.throws(() => bindToVfio(GPU, root), refusal("EBIND", /vfio-pci does not take 0000:1a:00\.0/));
  assert.equal(has(root, "driver_override"), "pci-stub\n");
});

test("unbinding offers the function to a driver that nobody has", (t) => {
  const root = host(t, { driver_override: "(null)\n" });
  unbind(GPU, root);
  assert.equal(has(root, "driver_override"), "linkfence");
});

test("a driver that does not let go keeps its function, and the override is as it was", (t) => {
  const root = host(t, { driver_override: "(null)\n", driver: driver("nvidia"), "power/control": "on\n" }, ["nvidia"]);
  assert.throws(() => unbind(GPU, root), refusal("EBIND", /nvidia does not let go/));
  assert.equal(has(root, "driver_override").trim(), "");
});

test("giving back restores the override and whether it may be suspended", (t) => {
  const root = host(t, { driver_override: "linkfence\n", "power/control": "on\n" });
  giveBack({ address: GPU, driver: null, override: "pci-stub", powerControl: "auto" }, root);
  assert.equal(has(root, "driver_override"), "pci-stub\n");
  assert.equal(has(root, "power/control"), "auto");
});

test("a former driver that is not loaded any more is named", (t) => {
  const root = host(t, { driver_override: "linkfence\n" });
  const former = { address: GPU, driver: "nvidia", override: null, powerControl: null };
  assert.throws(() => giveBack(former, root), refusal("EBIND", /modprobe nvidia/));
});
