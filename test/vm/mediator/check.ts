/**
 * Serves GPUs of a real kernel through fences, and has clients on the same host use them; the hardware, whose word counts, is
 * a virtual machine's in this process, attached to that kernel by QEMU. Exit status: 0 all passed, 1 something failed, 77 this
 * machine cannot do it.
 */
import assert from "node:assert/strict";
import { breaches } from "../../cli/json_schema.js";
import { guestFiles } from "../guest_files.js";
import { runCheck } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";
import { WatchedHost } from "./watched_host.js";

const BUDGET = 340;
const RESULTS = [
  "serve --live without --yes touches nothing",
  "serve --live takes, opens, fences and serves",
  "status and verify read the registers",
  "clients that reset, go and are killed never touch a GPU whose links are not cut",
  "a reset behind its back is noticed and the links are cut again at once",
  "a real config space: the client's BARs and FLR are its own, the mirror of config space too",
  "assignments change while it runs",
  "a function that the host takes away is served no longer, and the others go on",
  "the end: every function has its former driver, and the ledger says so",
];

await runCheck(async ({ parts, report, folder }) => {
  const host = await WatchedHost.start(folder, 4, ["vm1=GPU0,GPU1", "vm2=GPU2"]);
  const vm = new VirtualMachine(parts, {
    job: "node /linkfence/guest/mediator/mediator_guest.mjs",
    env: host.env,
    files: guestFiles({ mediator: "mediator/guest", v100: "v100/guest" }),
    node: true,
    intelIommu: "caching-mode=on",
    sharedMemory: true,
    devices: host.devices,
    timeoutS: BUDGET,
  });
  await report.scenario("mediator", BUDGET, [vm], async () => {
    await host.answer(vm);
    const { reason } = await vm.ended;
    report.addResults("mediator", vm.results, RESULTS);
    await report.run("what it prints as JSON holds to the schemas", () => {
      const said = (what: string) => JSON.parse(vm.results.get(what) ?? "null") as unknown;
      assert.deepEqual(breaches("status", said("status --json")), []);
      const events = said("serve --json");
      assert.ok(Array.isArray(events) && events.length > 0, "no event");
      for (const event of events) assert.deepEqual(breaches("serve", event), [], JSON.stringify(event));
      return `a status and ${events.length} events`;
    });
    report.add("the guest ended in good order", reason === "done" ? undefined : reason);
  });
  await host.stop();
});
