// A host whose owner has forgotten something: each time one line says so, nothing is touched, and every function keeps its driver.
// Environment: GPUS, NVLINK; see mediator_guest.mjs.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { closeSync, openSync, rmSync } from "node:fs";
import { groupOf } from "/linkfence/dist/host/vfio/vfio_group.js";
import { linkfence } from "/linkfence/guest/live_server.mjs";
import { PciFunction } from "/linkfence/guest/pci_function.mjs";
import { check, status } from "/linkfence/guest/report.mjs";
import { A, B, DISK, drivers, refused, SOURCE, STATE } from "./bad_day.mjs";

const ASSIGN = ["--assign", `vm1=${A},${DISK.address}`, "--assign", `vm2=${B}`];

await check("a GPU that somebody has open by VFIO is refused, with the process", async () => {
  rmSync(STATE, { recursive: true, force: true });
  // Somebody else has the second GPU's group open.
  const holder = new PciFunction(B);
  holder.bind("vfio-pci");
  const group = openSync(`/dev/vfio/${groupOf(B)}`, "r+");
  refused(
    linkfence("serve", "--live", ...SOURCE, ...ASSIGN, "--state-dir", STATE),
    /has 0000:02:00\.0 open by VFIO already/,
  );
  closeSync(group);
  holder.unbind();
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
});
await check("a group with a function that a driver has is refused with its name", () => {
  const [first, second] = PciFunction.findAll(0x8086, 0x10d3);
  second.bind("e1000e");
  refused(
    linkfence("serve", "--live", "--yes", "--assign", `vm9=${first.address}`, "--state-dir", "/tmp/other"),
    new RegExp(`is not viable.*${second.address} \\(e1000e\\)`),
  );
  assert.equal(second.driver, "e1000e");
  second.unbind();
});
await check("an ordinary user gets one line", () => {
  const run = `process.setgid(65534); process.setuid(65534); process.argv = ["node", ...${JSON.stringify([
    "serve",
    "--live",
    ...SOURCE,
    ...ASSIGN,
    "--state-dir",
    "/tmp/nobody",
    "--socket-dir",
    "/tmp/nobody-run",
  ])}]; await import("/linkfence/dist/cli/main.js");`;
  const { status, stderr } = spawnSync(process.execPath, ["--input-type=module", "-e", run], { encoding: "utf8" });
  refused({ status, errors: stderr.trim() }, /root/);
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
});
await check("without vfio-pci nothing is touched, and the line says modprobe", () => {
  assert.equal(spawnSync("rmmod", ["vfio_pci"]).status, 0);
  refused(linkfence("serve", "--live", ...SOURCE, ...ASSIGN, "--state-dir", STATE), /modprobe vfio-pci/);
  assert.deepEqual(drivers(), [undefined, undefined, "nvme"]);
  assert.equal(spawnSync("insmod", ["/modules/vfio_pci.ko"]).status, 0);
});

process.exit(status());
