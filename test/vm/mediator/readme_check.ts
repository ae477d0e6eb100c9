/**
 * Runs the README's commands for a live host on one with four virtual V100s. Exit status: 0 all passed, 1 something failed, 77
 * this machine cannot do it.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { guestFiles, ROOT } from "../guest_files.js";
import { runCheck } from "../run_check.js";
import { VirtualMachine } from "../virtual_machine.js";
import { WatchedHost } from "./watched_host.js";

const BUDGET = 340;

/** The README's commands for a live host, in order; see `test/readme.test.ts` for all others. */
function readmeCommands(): string[] {
  const readme = readFileSync(join(ROOT, "README.md"), "utf8");
  return [...readme.matchAll(/^```sh live\n(.*?)^```/gms)].flatMap(([, block]) => (block ?? "").trim().split("\n"));
}

await runCheck(async ({ parts, report, folder }) => {
  const host = await WatchedHost.start(folder, 4, ["vm1=GPU0,GPU1", "vm2=GPU2"]);
  const vm = new VirtualMachine(parts, {
    job: "node /linkfence/guest/mediator/readme_guest.mjs",
    env: { ...host.env, README: JSON.stringify(readmeCommands()) },
    files: guestFiles({ mediator: "mediator/guest" }),
    node: true,
    intelIommu: "caching-mode=on",
    sharedMemory: true,
    devices: host.devices,
    timeoutS: BUDGET,
  });
  await report.scenario("README", BUDGET, [vm], async () => {
    const { reason } = await vm.ended;
    report.addResults("README", vm.results, ["the README's commands for a live host"]);
    report.add("the guest ended in good order", reason === "done" ? undefined : reason);
  });
  await host.stop();
});
